"""One training run in a folder of its own: ``run.json`` in, JSON lines out, the model in ``space/``.

It may be killed at any moment and started again with the same folder: it goes on from its last checkpoint.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.training.objective import PHASES, Objective, Phase, Recipe, load_objective
from ml.training.plan import TrainingError

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace
    from ml.training.extract import Extracted
    from ml.training.plan import Data, Progress

REQUEST, RESULT = "run.json", "result.json"
SPACE, CHECKPOINTS, SHARDS = "space", "checkpoints", "shards"
#: Keys of held-out items that the result names at most.
MOST_HELD_OUT = 1_000

Report = Callable[..., None]
Load = Callable[[Recipe], Objective]


@dataclass(frozen=True)
class Request:
    """What ``run.json`` asks for; unknown keys are refused."""

    recipe: Recipe
    data: list[str]
    general: list[str] = field(default_factory=list)
    space: dict[str, str] = field(default_factory=dict)  #: ``id`` and ``version`` of what comes out
    limits: dict[str, Any] = field(
        default_factory=dict
    )  #: wall_s, patience, checkpoint_s, memory_bytes, threads, processes
    unreadable: int = 0  #: files that were lost before the shards were made
    resume: bool = True
    estimate_only: bool = False


def read_request(folder: Path) -> Request:
    """Raises TrainingError(``bad_request``), and ``base_missing`` where the base was deleted."""
    try:
        body = json.loads((folder / REQUEST).read_text("utf-8"))
        return _request(body)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise TrainingError("bad_request", f"{REQUEST}: {error}") from error


def _request(body: Any) -> Request:
    if not isinstance(body, dict):
        raise ValueError("it is no JSON object")
    rest = dict(body)
    base = (rest.pop("base", None) or {}).get("folder")
    names = {one.name for one in fields(Recipe)} - {"base"}
    recipe = Recipe(
        base=Path(base) if base else None, **{name: rest.pop(name) for name in names & rest.keys()}
    )
    if recipe.stage not in PHASES:
        raise ValueError(f"stage is {recipe.stage!r}, not one of {', '.join(PHASES)}")
    if recipe.epochs < 1 or recipe.batch < 2:
        raise ValueError("epochs must be at least 1 and batch at least 2")
    if base and not (Path(base) / "manifest.json").is_file():
        raise TrainingError(
            "base_missing", "The model to start from is no longer there; choose another base."
        )
    return Request(recipe, rest.pop("data"), **rest)


def run(folder: Path, report: Report, load: Load | None = None) -> dict[str, Any]:
    """Train as ``folder/run.json`` asks; the result event's fields. Raises TrainingError.

    A run that was finished before gives its result again. ``load``: makes the objective of a recipe, by default
    the one in ``ml.training.objectives`` that it names.
    """
    request = read_request(folder)
    if (done := _finished(folder)) and request.resume:
        return done
    if not request.resume:
        for name in (CHECKPOINTS, SPACE):
            shutil.rmtree(folder / name, ignore_errors=True)
    _limit(request.limits)
    from ml.training import distributed

    with distributed.process_group():
        return _trained(folder, request, report, load or load_objective)


def _trained(folder: Path, request: Request, report: Report, load: Load) -> dict[str, Any]:
    from ml.training import distributed
    from ml.training.checkpoints import Checkpoints
    from ml.training.loop import Trainer
    from ml.training.plan import Limits

    start = time.perf_counter()
    objective = load(request.recipe)
    data, reports = _data(folder, request, objective, report)
    checkpoints = Checkpoints(
        folder / CHECKPOINTS, lambda code, detail: report("warning", code=code, detail=detail)
    )
    known = {one.name for one in fields(Limits)}
    limits = Limits(**{name: value for name, value in request.limits.items() if name in known})
    trainer = Trainer(objective, data, report, checkpoints, limits)
    progress = trainer.run(request.estimate_only)
    if request.estimate_only or distributed.rank():
        return {
            "space": None,
            "metrics": {},
            "cpu_s": round(progress.cpu_s, 1),
            "gpu_s": round(progress.gpu_s, 1),
        }
    with distributed.alone():
        space, relevance = _export(folder, request, objective, progress, reports, data[trainer.phases[-1]])
        metrics = objective.evaluate(space, data[trainer.phases[-1]].train, _tests(data))
    trainer.settle()
    result = {
        "space": str(space),
        "metrics": metrics,
        "relevance": relevance,
        "quality": reports,
        "epochs": sum(1 for point in progress.history if point["epoch"]),
        "stopped": progress.stopped,
        "busy": _busy(progress),
        "held_out": _held_out(data[trainer.phases[-1]]),
        "cpu_s": round(progress.cpu_s, 1),
        "gpu_s": round(progress.gpu_s, 1),
        "wall_s": round(time.perf_counter() - start, 1),
    }
    _write_whole(folder / RESULT, json.dumps(result).encode())
    return result


def _data(
    folder: Path, request: Request, objective: Objective, report: Report
) -> tuple[dict[Phase, Data], dict[str, Any]]:
    """Every phase's items, looked at: raw sources are encoded first."""
    data: dict[Phase, Data] = {}
    reports: dict[str, Any] = {}
    for phase in PHASES[request.recipe.stage]:
        urls = request.general if phase == "general" else request.data
        unreadable = 0 if phase == "general" else request.unreadable
        if phase == "general" and not urls:
            raise TrainingError("no_general_pairs", "The stage full needs general pairs (`general`).")
        if objective.features:
            urls, lost = _features(folder / SHARDS / phase, urls, request.recipe, report)
            unreadable += lost
        data[phase], reports[phase] = _looked_at(objective, urls, unreadable)
        report("quality", phase=phase, **reports[phase])
    return data, reports


def _looked_at(objective: Objective, urls: list[str], unreadable: int) -> tuple[Data, dict[str, Any]]:
    from ml.training.plan import TEST, TRAIN, VAL, Data, Selection
    from ml.training.quality import inspect_data

    items = objective.items(urls)
    quality = inspect_data(items, objective.least_pairs, objective.look, unreadable)
    train, val, test = (Selection(items, quality.plan, code, objective.buffer) for code in (TRAIN, VAL, TEST))
    return Data(train, val, test), quality.report


def _features(out: Path, urls: list[str], recipe: Recipe, report: Report) -> tuple[list[str], int]:
    """Feature shards as they are; raw sources encoded into ``out``, once. The URLs, and how many files were lost."""
    from ml.alignment.space import JointSpace
    from ml.training.shards import shard_encoders_key
    from ml.training.sources import ENDINGS, expand

    space = JointSpace.load(recipe.base)
    ready: list[str] = []
    raw: list[str] = []
    for url in expand(urls, *ENDINGS):
        mark = shard_encoders_key(url) if url.partition("?")[0].endswith(".parquet") else None
        if mark not in (None, space.encoders_key):
            raise TrainingError("other_encoders", f"{url} was made by other encoders than those of the base.")
        (ready if mark else raw).append(url)
    if not raw:
        return ready, 0
    extracted = _extracted(out, raw, space, report)
    return [*ready, str(out)], extracted["unreadable"]


def _extracted(out: Path, raw: list[str], space: JointSpace, report: Report) -> dict[str, Any]:
    from ml.training import distributed
    from ml.training.extract import extract

    done = out / "extracted.json"
    if distributed.rank() == 0 and not done.exists():
        shutil.rmtree(out, ignore_errors=True)
        told = _Telling(report)
        found: Extracted = extract(raw, out, space, told)
        _write_whole(done, json.dumps(asdict(found)).encode())
    distributed.broadcast(None)  # the others wait for the shards
    return dict(json.loads(done.read_text("utf-8")))


class _Telling:
    """Says now and then how far the encoding is."""

    def __init__(self, report: Report) -> None:
        self._report, self._told = report, 0.0

    def __call__(self, pairs: int, unreadable: int) -> None:
        if time.perf_counter() - self._told > 1:
            self._told = time.perf_counter()
            self._report("extracting", pairs=pairs, unreadable=unreadable)


def _export(
    folder: Path,
    request: Request,
    objective: Objective,
    progress: Progress,
    reports: Mapping[str, Any],
    data: Data,
) -> tuple[Path, dict[str, Any]]:
    """Written beside and renamed: ``space/`` is whole or not there. And what is known of its relevance."""
    part, target = folder / f".{SPACE}.part", folder / SPACE
    shutil.rmtree(part, ignore_errors=True)
    recipe = {name: value for name, value in asdict(request.recipe).items() if name != "base"}
    history = [point for point in progress.history if point["best"]][-1:]
    extra = {**request.space, "training": {**recipe, "best": history, "quality": dict(reports)}}
    objective.export(part, extra)
    relevance = objective.calibrate(part, data)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target, relevance


def _tests(data: Mapping[Phase, Data]) -> dict[str, Any]:
    """What is judged at the end, by name: the domain's test split, and the general one's where there is one."""
    return {"general" if phase == "general" else "domain": one.test for phase, one in data.items()}


def _busy(progress: Progress) -> float:
    """The share of all epochs in which the device was at work; 0 without any."""
    epochs = [point for point in progress.history if point["epoch"]]
    took = sum(point["wall_s"] for point in epochs)
    return round(sum(point["busy"] * point["wall_s"] for point in epochs) / took, 4) if epochs else 0.0


def _held_out(data: Data) -> list[str]:
    return [item.key for _, item in zip(range(MOST_HELD_OUT), data.test, strict=False)]


def _finished(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / RESULT).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and Path(found["space"]).is_dir() else None


def _limit(limits: Mapping[str, Any]) -> None:
    """Threads and memory of this process; before torch is loaded."""
    threads = str(int(limits.get("threads") or 1))
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = threads
    if memory := limits.get("memory_bytes"):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), hard))


def _write_whole(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
