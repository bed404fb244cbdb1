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
from numpy.typing import NDArray

from ml.compression import quantise, store
from ml.compression.graph import can_write, quantise_rows, write_bert
from ml.compression.store import FORMAT, MODEL, TOKENIZER, Export, locked, replacing, sha256, write_manifest
from ml.compression.towers import Tower, tower_of

# --- Parity ----------------------------------------------------------------------------------------------
# How far an exported encoder strays from its fp32 original: the numbers, and where they are refused.


Vectors = NDArray[np.float32]

#: Neighbours that are compared. Of fewer than fifty items a fifth: ten of twelve are found by anyone.
NEIGHBOURS, SHARE = 10, 5
#: Fewer than this say nothing about neighbours.
LEAST_ITEMS = 10


@dataclass(frozen=True)
class Floors:
    """The least mean cosine and share of neighbours that an export may have."""

    cosine: float
    recall: float

    def admit(self, parity: Parity) -> bool:
        return parity.cosine >= self.cosine and parity.recall >= self.recall


@dataclass(frozen=True)
class Parity:
    """Cosine to fp32, mean and least, and recall of fp32's neighbours, all 0..1, over ``items`` held-out inputs."""

    cosine: float
    recall: float
    neighbours: int
    items: int
    least: float

    def text(self) -> str:
        found = f"recall@{self.neighbours} of fp32's neighbours {self.recall:.3f}"
        return f"mean cosine {self.cosine:.4f}, {found} ({self.items} items)"


def parity_of(reference: Vectors, found: Vectors) -> Parity:
    """Compare vectors [n, d] of the same n items. Numbers that are none count as a cosine of 0."""
    found = np.nan_to_num(found)
    count = min(NEIGHBOURS, max(1, len(reference) // SHARE))
    one, other = _unit(reference), _unit(found)
    pairs = zip(_nearest(one, count), _nearest(other, count), strict=True)
    shared = [len(np.intersect1d(wanted, got)) for wanted, got in pairs]
    cosines = np.sum(one * other, axis=1)
    recall = float(np.mean(shared)) / count
    return Parity(float(cosines.mean()), recall, count, len(reference), float(cosines.min()))


def _unit(vectors: Vectors) -> Vectors:
    rows: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return rows


def _nearest(rows: Vectors, count: int) -> NDArray[np.intp]:
    """The nearest others of each unit row: [n, count]."""
    scores = rows @ rows.T
    np.fill_diagonal(scores, -np.inf)
    return np.argsort(-scores, axis=1, kind="stable")[:, :count]


# --- Calibration -----------------------------------------------------------------------------------------
# What an export is calibrated and compared with: the operator's pictures or texts, or the bundled ones.


#: More calibrate no better and take long.
MOST_PICTURES, MOST_TEXTS = 300, 600
PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}


def calibration_items(modality: str, folder: Path | None) -> list[Any]:
    """Texts, or uint8 pictures [h, w, 3], always in the same order. Raises ValueError for a folder with none."""
    if modality == "text":
        return _texts(folder) if folder else _bundled_texts()
    return _pictures(folder or _bundled_pictures())


def _texts(folder: Path) -> list[str]:
    lines = [
        line.strip()
        for path in sorted(folder.rglob("*.txt"))
        for line in path.read_text("utf-8", errors="replace").splitlines()
    ]
    texts = list(dict.fromkeys(line for line in lines if line))
    if not texts:
        raise ValueError(f"there is no text in {folder}: one a line is wanted, in .txt files")
    return _spread(texts, MOST_TEXTS)


def _bundled_texts() -> list[str]:
    """Sentences of many kinds, and phrases for what pictures show."""
    from ml.alignment.vocabulary import written_phrases
    from ml.compression.prepare import SENTENCES

    phrases = _spread(list(dict.fromkeys(phrase.text for phrase in written_phrases())), MOST_TEXTS // 2)
    return [*SENTENCES, *phrases]


def _pictures(folder: Path) -> list[Any]:
    """Decoded in a process of its own, as all media that others supply; what cannot be read is left out."""
    from ml.media import Decoder, MediaError

    paths = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in PICTURES]
    found = []
    with Decoder() as decoder:
        for path in _spread(paths, MOST_PICTURES):
            try:
                found.append(decoder.image(path, thumbnail=False).pixels)
            except MediaError:
                continue
    if not found:
        raise ValueError(f"there is no readable picture in {folder}")
    return found


def _bundled_pictures() -> Path:
    from ml.compression.prepare import CALIBRATION

    return CALIBRATION


def _spread(items: list[Any], most: int) -> list[Any]:
    """At most ``most`` of them, evenly from the whole list."""
    return items if len(items) <= most else [items[number * len(items) // most] for number in range(most)]


# --- Export ----------------------------------------------------------------------------------------------


#: By modality, for INT8. Neighbours of what is alike swap places easily: the cosine says more, recall finds collapses.
INT8_FLOORS = {
    "text": Floors(quantise.TEXT_FLOOR, 0.80),
    "image": Floors(quantise.IMAGE_FLOOR, 0.80),
}
#: Float must be the same but for rounding and the resizing of pictures, which differs a little between libraries.
HALF_FLOORS = {"text": Floors(0.999, 0.95), "image": Floors(0.99, 0.85)}
FP32_FLOORS = {"text": Floors(0.9999, 0.98), "image": Floors(0.99, 0.85)}

#: What is tried for each precision that is asked for, in turn; with ``halved`` what stays float is stored in two bytes.
PRECISIONS = {"int8": ("int8", "fp32"), "fp32": ("fp32",), "half": ("half",)}
HALVED = {"int8": ("int8", "fp16"), "fp16": ("fp16",), "fp32": ("fp32",)}

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
    halved: bool = False,
) -> tuple[Export, list[Attempt]]:
    """Write ``folder/name`` (by default in ``exports_dir()``) and give it back with what was tried.

    ``calibration`` is a folder with pictures, or with texts (one a line in .txt files); without it the bundled ones
    are used. INT8 falls back to a spared bit and to fp32; with ``halved``, which also has the precision fp16, to fp16
    weights, computed with as fp32. ``half`` computes in fp16, which is for graphics cards. Raises ParityError with the
    numbers when none is close enough, NotExportable, ValueError for a name or precision that cannot be, and what
    ``load_encoder`` raises.
    """
    precisions = HALVED if halved else PRECISIONS
    if precision not in precisions:
        raise ValueError(f"precision {precision!r} is none of {', '.join(precisions)}")
    target = (folder or store.exports_dir()) / store.check_name(name)
    tower = tower_of(spec)
    items = calibration_items(tower.modality, calibration)
    if len(items) < 3 * LEAST_ITEMS:
        raise ValueError(
            f"{len(items)} items to calibrate and compare with are too few: at least {3 * LEAST_ITEMS}"
        )
    with locked(target), replacing(target) as building:
        entry, tried = _build(tower, items, precisions[precision], building)
        write_manifest(building, FORMAT, {"encoder": entry})
    return store.find_export(name, target.parent), tried


def _build(
    tower: Tower, items: Sequence[Any], kinds: Sequence[str], out: Path
) -> tuple[dict[str, Any], list[Attempt]]:
    """Files into ``out``; the manifest entry. Two items in three calibrate, the third judges."""
    judged = items[2::3]
    calibrating = [item for number, item in enumerate(items) if number % 3 != 2]
    reference = tower.reference(judged)
    tried = []
    with tempfile.TemporaryDirectory(prefix=f"{out.name}-", dir=out.parent) as scratch:
        for kind, write, preparation in _ways(tower, calibrating, Path(scratch), kinds):
            write(out / MODEL)
            entry = _entry(tower, kind, preparation, out)
            parity = parity_of(reference, _encode(entry, out, judged))
            tried.append(Attempt(kind, parity, _floors(kind)[tower.modality].admit(parity)))
            if tried[-1].kept:
                return entry | {"parity": _rounded(parity)}, tried
    numbers = "; ".join(f"{one.precision}: {one.parity.text()}" for one in tried)
    raise quantise.ParityError(f"{tower.spec} is refused, since it strays from its original. {numbers}")


def _floors(kind: str) -> dict[str, Floors]:
    if kind == "half":
        return HALF_FLOORS
    return FP32_FLOORS if kind in ("fp16", "fp32") else INT8_FLOORS


def _ways(
    tower: Tower, calibrating: Sequence[Any], scratch: Path, kinds: Sequence[str]
) -> Iterator[tuple[str, Write, dict[str, Any]]]:
    """Precision, how to write the model, and how input is prepared, in the order in which they are tried."""
    if tower.body is not None and can_write(tower.body) and not {"fp16", "half"} & set(kinds):
        preparation = tower.preparation | {"packed": True}
        for kind in kinds:
            yield kind, partial(write_bert, tower.body, int8=kind == "int8"), preparation
        return
    plain, folded = scratch / "net.onnx", scratch / "net-folded.onnx"
    _export_module(tower, plain)
    quantise.preprocess(plain, folded)
    if "int8" in kinds:
        for kind, write in _int8_ways(tower, calibrating, folded):
            yield kind, _then_halved(write) if "fp16" in kinds else write, tower.preparation
    if "fp16" in kinds:
        yield "fp16", partial(quantise.store_halved, folded), tower.preparation
    if "half" in kinds:
        yield "half", partial(quantise.compute_halved, folded), tower.preparation
    if "fp32" in kinds:
        yield "fp32", lambda path: path.write_bytes(folded.read_bytes()), tower.preparation


def _then_halved(write: Write) -> Write:
    """The tables of words and positions are what INT8 products leave float: half of a small text tower."""

    def both(path: Path) -> None:
        write(path)
        quantise.store_halved(path, path)

    return both


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
