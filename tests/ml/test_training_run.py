"""A run in a folder: what it is asked, what it says, what it leaves behind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml.alignment.space import JointSpace
from ml.training import __main__ as command
from ml.training import run as module
from ml.training.__main__ import main
from ml.training.extract import extract
from ml.training.objective import Recipe, load_objective
from ml.training.plan import TrainingError, hashed
from ml.training.quality import ItemSignature
from ml.training.run import read_request, run
from ml.training.shards import ShardWriter, read_pairs
from tests.ml.training_pairs import pairs
from tests.ml.training_toy import Thing, Toy, things

ROOT = Path(__file__).resolve().parents[2]


class Exporting(Toy):
    """The toy with all that a run asks of an objective."""

    def items(self, urls: Any) -> list[Thing]:
        return [thing for url in urls for thing in things(int(url))]

    def look(self, item: Thing) -> ItemSignature:
        return ItemSignature(hashed(item.left.tobytes()), hashed(item.key), np.empty(0, np.float32))

    def export(self, folder: Path, manifest_extra: Mapping[str, Any]) -> Path:
        folder.mkdir()
        (folder / "manifest.json").write_text(json.dumps(dict(manifest_extra)))
        return folder

    def calibrate(self, folder: Path, data: Any) -> dict[str, Any]:
        return {"state": "none"}

    def evaluate(
        self, folder: Path, train: Iterable[Any], tests: Mapping[str, Iterable[Any]]
    ) -> dict[str, Any]:
        return {name: self.validate(items) for name, items in tests.items()}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_objective", Exporting)
    monkeypatch.setattr(module, "_limit", lambda limits: None)


def ask(folder: Path, **body: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"epochs": 3, "batch": 32, "data": ["200"], **body}))
    return folder


def events_of(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    said: list[dict[str, Any]] = []
    return run(folder, lambda event, **fields: said.append({"event": event, **fields})), said


def test_a_run_from_its_request_to_its_result(toy: None, tmp_path: Path) -> None:
    result, said = events_of(ask(tmp_path, space={"id": "cman-x", "version": "1"}))
    kinds = [one["event"] for one in said if one["event"] != "progress"]
    assert kinds == ["quality", "estimate", *["curve"] * 4, "checkpoint"]
    assert said[0]["splits"] == {"train": 160, "val": 20, "test": 20}
    assert result["metrics"]["domain"]["primary"] > 0.2
    assert (result["epochs"], result["stopped"], len(result["held_out"])) == (3, "epochs", 20)
    assert 0 < result["busy"] <= 1
    manifest = json.loads((Path(result["space"]) / "manifest.json").read_text())
    assert (manifest["id"], manifest["training"]["epochs"]) == ("cman-x", 3)
    assert manifest["training"]["quality"]["adapt"]["items"] == 200
    # Asked again, it has the same answer without training.
    again, said = events_of(tmp_path)
    assert (again, said) == (result, [])


def test_a_run_that_shall_not_resume_starts_anew(toy: None, tmp_path: Path) -> None:
    events_of(ask(tmp_path))
    _, said = events_of(ask(tmp_path, resume=False))
    assert [one["event"] for one in said].count("curve") == 4


def test_an_estimate_alone(toy: None, tmp_path: Path) -> None:
    result, said = events_of(ask(tmp_path, estimate_only=True))
    assert [one["event"] for one in said] == ["quality", "estimate"]
    assert result["space"] is None
    assert not (tmp_path / "space").exists()


def test_full_needs_general_pairs_and_judges_both(toy: None, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as caught:
        run(ask(tmp_path, stage="full"), lambda *_, **__: None)
    assert caught.value.code == "no_general_pairs"
    result, said = events_of(ask(tmp_path, stage="full", general=["150"]))
    assert set(result["metrics"]) == {"general", "domain"}
    assert [one["phase"] for one in said if one["event"] == "quality"] == ["general", "domain"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"stage": "half"}, "bad_request"),
        ({"epochs": 0}, "bad_request"),
        ({"batch": 1}, "bad_request"),
        ({"colour": "red"}, "bad_request"),
        ({"base": {"folder": "/nowhere/at/all"}}, "base_missing"),
        ({"base": 3}, "bad_request"),
    ],
)
def test_requests_that_make_no_sense(tmp_path: Path, body: dict[str, Any], code: str) -> None:
    with pytest.raises(TrainingError) as caught:
        read_request(ask(tmp_path, **body))
    assert caught.value.code == code


@pytest.mark.parametrize("content", ["", "[]", "{", '{"data": 1, "epochs": "x"}'])
def test_requests_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(TrainingError) as caught:
        read_request(tmp_path)
    assert caught.value.code == "bad_request"


def test_an_objective_that_there_is_not() -> None:
    for recipe in (Recipe(objective="nothing"), Recipe(method="magic")):
        with pytest.raises(TrainingError) as caught:
            load_objective(recipe)
        assert caught.value.code == "unknown_objective"


def test_the_process_says_why_it_cannot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ml.training.__main__._end_with_parent", lambda: None)
    assert main(["--nice", "0", "run", str(tmp_path)]) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["event"], said["code"]) == ("error", "bad_request")


def test_the_process_ends_with_its_parent(tmp_path: Path) -> None:
    code = "import time, ml.training.__main__ as m; m._end_with_parent()"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE)
    assert process.stdin
    process.stdin.close()
    assert process.wait(30) == 3


class Seeing:
    """A space whose encoders see the mean colour."""

    encoders_key = "mean"

    def see(self, images: list[Any]) -> Any:
        means = np.array([image.mean(axis=(0, 1)) for image in images], np.float32)
        return SimpleNamespace(probabilities=means / 255, features=means, colours=means)

    def read(self, texts: list[str]) -> Any:
        lengths = np.array([[len(text)] * 3 for text in texts], np.float32)
        return SimpleNamespace(vectors=lengths, colours=lengths)


def test_hostile_pictures_do_not_stop_an_extraction(tmp_path: Path) -> None:
    members = {"3.jpg": b"\xff\xd8\xff broken", "3.txt": b"a broken one", "4.txt": b"no picture at all"}
    for row in range(12):
        colour = io.BytesIO()
        Image.new("RGB", (9, 7), (row * 20, 0, 0)).save(colour, "PNG")
        members |= {f"good{row}.png": colour.getvalue(), f"good{row}.txt": b"x" * (row + 1)}
    members |= {"svg.png": b"<svg onload='x'/>", "svg.txt": b"a script"}
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    done = extract([str(tmp_path / "a.tar")], tmp_path / "shards", Seeing())
    assert (done.pairs, done.unreadable) == (12, 3)
    assert [one["key"] for one in done.failures] == ["3", "4", "svg"]
    found = list(read_pairs([str(tmp_path / "shards")]))
    assert [pair.key for pair in found] == [f"good{row}" for row in range(12)]
    assert [float(pair.features[0]) for pair in found] == pytest.approx([row * 20 for row in range(12)])
    assert [float(pair.text[0, 0]) for pair in found] == [row + 1 for row in range(12)]


def test_several_processes_go_on_under_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Exception):
        pass

    def execute(program: str, arguments: list[str]) -> None:
        assert program == sys.executable
        asked.extend(arguments[1:])
        raise Gone

    asked: list[str] = []
    monkeypatch.setattr("ml.training.__main__.os.execv", execute)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    options = SimpleNamespace(folder=ask(tmp_path, limits={"processes": 3}))
    with pytest.raises(Gone):
        command._run(options)
    assert asked[:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    assert asked[5:] == ["-m", "ml.training", "run", str(tmp_path)]


@pytest.mark.slow
def test_the_heads_of_a_space_are_trained(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way with the objective that the platform uses, on pairs that the prior knows nothing of."""
    monkeypatch.setattr(module, "_limit", lambda limits: None)
    shipped = JointSpace.load()
    write_shards(tmp_path / "pairs", shipped.encoders_key)
    body = {"data": [str(tmp_path / "pairs")], "epochs": 2, "space": {"id": "cman-x", "version": "1"}}
    result, said = events_of(ask(tmp_path / "run", **body))
    gained = result["metrics"]["domain"]["differences"]["parent"]["text>image"]["r1"]
    assert gained["interval"][0] > 0.2
    space = JointSpace.load(result["space"])
    assert (space.id, space.version, space.manifest["kind"]) == ("cman-x", "1", "cman")
    assert space.encoders_key == shipped.encoders_key
    assert [one["event"] for one in said].count("curve") == 3


def test_shards_of_other_encoders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_limit", lambda limits: None)
    write_shards(tmp_path / "pairs", "resnet and bert")
    with pytest.raises(TrainingError) as caught:
        events_of(ask(tmp_path / "run", data=[str(tmp_path / "pairs")]))
    assert caught.value.code == "other_encoders"


def write_shards(folder: Path, encoders_key: str) -> None:
    with ShardWriter(folder, encoders_key) as writer:
        for pair in pairs(150):
            writer.add(pair)
