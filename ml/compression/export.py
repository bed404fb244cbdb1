"""Export any encoder to ONNX: ``python -m ml.compression export SPEC --name NAME``.

Each precision is tried in turn, and the first one that stays close enough to fp32 is kept; where none does, nothing is
written and the numbers are told.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ml.compression import exports, quantise
from ml.compression.bert import can_write, write_bert
from ml.compression.calibrating import calibration_items
from ml.compression.exports import FORMAT, MODEL, TOKENIZER, Export
from ml.compression.folders import locked, replacing
from ml.compression.graph import quantise_rows
from ml.compression.parity import LEAST_ITEMS, Floors, Parity, parity_of
from ml.compression.store import sha256, write_manifest
from ml.compression.towers import Tower, tower_of

#: By modality, for INT8. Neighbours of what is alike swap places easily: the cosine says more, recall finds collapses.
INT8_FLOORS = {
    "text": Floors(quantise.TEXT_FLOOR, 0.80),
    "image": Floors(quantise.IMAGE_FLOOR, 0.80),
}
#: Float must be the same but for rounding and the resizing of pictures, which differs a little between libraries.
FP32_FLOORS = {"text": Floors(0.9999, 0.98), "image": Floors(0.99, 0.85)}

PRECISIONS = ("int8", "fp32")

Write = Callable[[Path], Any]


@dataclass(frozen=True)
class Attempt:
    """One precision that was tried."""

    precision: str
    parity: Parity
    kept: bool


def export(
    spec: str,
    name: str,
    *,
    calibration: Path | None = None,
    precision: str = "int8",
    folder: Path | None = None,
) -> tuple[Export, list[Attempt]]:
    """Write ``folder/name`` (by default in ``exports_dir()``) and give it back with what was tried.

    ``calibration`` is a folder with pictures, or with texts (one a line in .txt files); without it the bundled ones
    are used. INT8 falls back to a spared bit and to fp32. Raises ParityError with the numbers when none is close
    enough, NotExportable, ValueError for a name or precision that cannot be, and what ``load_encoder`` raises.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is none of {', '.join(PRECISIONS)}")
    target = (folder or exports.exports_dir()) / exports.check_name(name)
    tower = tower_of(spec)
    items = calibration_items(tower.modality, calibration)
    if len(items) < 3 * LEAST_ITEMS:
        raise ValueError(
            f"{len(items)} items to calibrate and compare with are too few: at least {3 * LEAST_ITEMS}"
        )
    with locked(target), replacing(target) as building:
        entry, tried = _build(tower, items, precision, building)
        write_manifest(building, FORMAT, {"encoder": entry})
    return exports.find_export(name, target.parent), tried


def _build(
    tower: Tower, items: Sequence[Any], precision: str, out: Path
) -> tuple[dict[str, Any], list[Attempt]]:
    """Files into ``out``; the manifest entry. Two items in three calibrate, the third judges."""
    judged = items[2::3]
    calibrating = [item for number, item in enumerate(items) if number % 3 != 2]
    reference = tower.reference(judged)
    tried = []
    with tempfile.TemporaryDirectory(prefix=f"{out.name}-", dir=out.parent) as scratch:
        for kind, write, preparation in _ways(tower, calibrating, Path(scratch), precision):
            write(out / MODEL)
            entry = _entry(tower, kind, preparation, out)
            parity = parity_of(reference, _encode(entry, out, judged))
            floors = (FP32_FLOORS if kind == "fp32" else INT8_FLOORS)[tower.modality]
            tried.append(Attempt(kind, parity, floors.admit(parity)))
            if tried[-1].kept:
                return entry | {"parity": _rounded(parity)}, tried
    numbers = "; ".join(f"{one.precision}: {one.parity.text()}" for one in tried)
    raise quantise.ParityError(f"{tower.spec} is refused, since it strays from its original. {numbers}")


def _ways(
    tower: Tower, calibrating: Sequence[Any], scratch: Path, precision: str
) -> Iterator[tuple[str, Write, dict[str, Any]]]:
    """Precision, how to write the model, and how input is prepared, in the order in which they are tried."""
    if tower.body is not None and can_write(tower.body):
        preparation = tower.preparation | {"packed": True}
        for kind in PRECISIONS[PRECISIONS.index(precision) :]:
            yield kind, partial(write_bert, tower.body, int8=kind == "int8"), preparation
        return
    plain, folded = scratch / "net.onnx", scratch / "net-folded.onnx"
    _export_module(tower, plain)
    quantise.preprocess(plain, folded)
    if precision == "int8":
        for kind, write in _int8_ways(tower, calibrating, folded):
            yield kind, write, tower.preparation
    yield "fp32", lambda path: path.write_bytes(folded.read_bytes()), tower.preparation


def _int8_ways(tower: Tower, calibrating: Sequence[Any], folded: Path) -> Iterator[tuple[str, Write]]:
    """Networks of convolutions get static ranges, transformers (text or vision) a scale for each token."""
    if not _mostly_convolutions(folded):
        yield "int8", partial(quantise_rows, folded)
        return
    from ml.encoders.onnx import prepare_picture

    pictures = np.stack([prepare_picture(picture, tower.preparation) for picture in calibrating])
    for kind, reduced in (("int8", False), ("int8-reduced", True)):
        yield kind, partial(quantise.quantise_pictures, folded, pictures=pictures, reduce_range=reduced)


def _mostly_convolutions(path: Path) -> bool:
    """Whether most weights of the graph are in convolutions."""
    import onnx

    graph = onnx.load(str(path)).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    weights = {"Conv": 0, "MatMul": 0, "Gemm": 0}
    for node in graph.node:
        if node.op_type in weights:
            weights[node.op_type] += sizes.get(node.input[1], 0)
    return weights["Conv"] > weights["MatMul"] + weights["Gemm"]


def _export_module(tower: Tower, path: Path) -> None:
    import torch

    rows = torch.export.Dim("rows")
    if tower.modality == "image":
        example = torch.zeros(2, *tower.preparation["size"], 3, dtype=torch.uint8)
        quantise.export_onnx(tower.module, (example,), path, ["pixels"], "vectors", ({0: rows},))
        return
    fixed = tower.preparation["pad"]["length"]
    axes = (
        {0: rows} if fixed else {0: rows, 1: torch.export.Dim("tokens", max=tower.preparation["max_tokens"])}
    )
    shape = 2, fixed or 7
    # Two tensors, not one twice: the exporter would take one object for one input.
    examples = torch.ones(shape, dtype=torch.int64), torch.ones(shape, dtype=torch.int64)
    quantise.export_onnx(
        tower.module, examples, path, ["input_ids", "attention_mask"], "vectors", (axes, axes)
    )


def _entry(tower: Tower, precision: str, preparation: dict[str, Any], out: Path) -> dict[str, Any]:
    if tower.tokenizer is not None:
        tower.tokenizer.save(str(out / TOKENIZER))
    return {
        "spec": tower.spec,
        "source_version": tower.version,
        "modality": tower.modality,
        "dimension": tower.dimension,
        "precision": precision,
        "preparation": preparation,
        "version": f"1-{sha256(out / MODEL)[:12]}-{precision}",
        "made_with": {
            name: importlib.metadata.version(name) for name in ("onnxruntime", "torch", "transformers")
        },
    }


def _encode(entry: dict[str, Any], out: Path, items: Sequence[Any]) -> Any:
    """What the encoder of these files will answer: from raw input, so that its preparation is judged, too."""
    from ml.encoders.onnx import open_export

    return open_export(Export("candidate", out, entry)).encode(items)


def _rounded(parity: Parity) -> dict[str, Any]:
    return {name: round(value, 5) for name, value in asdict(parity).items()}
