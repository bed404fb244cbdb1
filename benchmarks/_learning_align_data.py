"""Pairs for the benchmark of alignment, the plain features of the traditional methods, and one adaptation."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _data import DATA, Array, Encoded, Row, rows_of
from _learning_emoji_data import EMOJI, STYLES, concepts
from PIL import Image

from ml.alignment.features import ImageFeatures
from ml.alignment.fitting import Pairs
from ml.alignment.space import JointSpace
from ml.alignment.windows import INPUT_SIDES
from ml.compression import find_model
from ml.encoders._efficientnet import squash
from ml.training.checkpoints import Checkpoints
from ml.training.loop import Trainer
from ml.training.objective import Recipe, load_objective
from ml.training.plan import TEST, TRAIN, VAL, Data, Plan, Selection
from ml.training.shards import Pair

#: Pictures of the fashion catalogue that teach and that judge; emoji concepts.
TAUGHT, JUDGED, CONCEPTS = 1_000, 400, 900
#: Every so many-th training pair stops training early instead.
VAL_EVERY = 10


@dataclass(frozen=True)
class Paired:
    """Pairs, and the same pictures as the traditional methods are published to see them."""

    pairs: Pairs
    plain: Array  #: [n, 2560] the last layer of both networks, pooled over the whole picture; of a tower its views

    def of(self, pictures: Array) -> Paired:
        return Paired(self.pairs.of(pictures), self.plain[pictures])

    @property
    def plainly(self) -> Pairs:
        """The pairs with the plain features alone."""
        sight = self.pairs.sight
        bare = ImageFeatures(sight.probabilities, self.plain, sight.colours)
        return Pairs(self.pairs.reading, bare, self.pairs.owners, self.pairs.groups)


def photos(encoded: Encoded) -> Paired | None:
    rows = rows_of("flickr8k_1k")
    return None if rows is None else _paired(encoded, rows, DATA / "flickr8k_1k")


def fashion(encoded: Encoded) -> Paired | None:
    rows = rows_of("fashion_products")
    if rows is None:
        return None
    chosen = np.random.default_rng(0).permutation(len(rows))[: TAUGHT + JUDGED]
    return _paired(encoded, [rows[number] for number in sorted(chosen)], DATA / "fashion_products")


def emoji(encoded: Encoded) -> dict[str, Paired] | None:
    """By art style; row by row the same concepts, each by its name and its name with tags."""
    rows = concepts()
    if rows is None:
        return None
    chosen = sorted(np.random.default_rng(0).permutation(len(rows))[:CONCEPTS])
    return {
        style: _paired(encoded, [_emoji(rows[number], style) for number in chosen], EMOJI) for style in STYLES
    }


def joined(parts: Sequence[Paired]) -> Paired:
    """All pictures of ``parts``; the same row of each is one group."""
    starts = np.cumsum([0, *(len(part.pairs.sight) for part in parts)])
    owners = [part.pairs.owners + start for part, start in zip(parts, starts, strict=False)]
    reading = type(parts[0].pairs.reading).concatenate([part.pairs.reading for part in parts])
    sight = ImageFeatures.concatenate([part.pairs.sight for part in parts])
    groups = np.concatenate([part.pairs.groups for part in parts])
    pairs = Pairs(reading, sight, np.concatenate(owners), groups)
    return Paired(pairs, np.concatenate([part.plain for part in parts]))


def adapted(pairs: Pairs, base: Path, seed: int = 0, options: dict[str, Any] | None = None) -> JointSpace:
    """What the objective ``align`` makes of these pairs from the space in ``base`` with its defaults, as a tenant's
    fine-tune would."""
    rows = _shard_rows(pairs)
    codes = np.full(len(rows), TRAIN, np.uint8)
    codes[np.unique(pairs.groups, return_inverse=True)[1] % VAL_EVERY == VAL_EVERY - 1] = VAL
    parts = [Selection(rows, Plan(codes), code, keep=len(rows)) for code in (TRAIN, VAL, TEST)]
    objective = load_objective(Recipe(base=base, seed=seed, options=options or {}))
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(Path(scratch), lambda *_: None)
        Trainer(objective, {"adapt": Data(*parts)}, lambda *_, **__: None, checkpoints).run()
        return JointSpace.load(objective.export(Path(scratch) / "space", {}))


def _shard_rows(pairs: Pairs) -> list[Pair]:
    """As feature shards hold them, float16 included."""
    texts, colours = pairs.reading.vectors.astype(np.float16), pairs.reading.colours.astype(np.float16)
    seen = {name: rows.astype(np.float16) for name, rows in vars(pairs.sight).items()}
    rows = []
    for number, group in enumerate(pairs.groups):
        mine = np.flatnonzero(pairs.owners == number)
        captions = tuple(f"{group} {place}" for place in range(len(mine)))
        picture = {name: values[number] for name, values in seen.items()}
        rows.append(Pair(str(number), str(group), "", captions, texts[mine], colours[mine], **picture))
    return rows


def _emoji(row: Row, style: str) -> Row:
    named = f"{row['label']}: {', '.join(row['tags'])}" if row["tags"] else row["label"]
    return {"path": row["pictures"][style], "text": [row["label"], named]}


def _paired(encoded: Encoded, rows: list[Row], folder: Path) -> Paired:
    texts = [row["text"] if isinstance(row["text"], list) else [row["text"]] for row in rows]
    paths = [folder / row["path"] for row in rows]
    owners = np.repeat(np.arange(len(rows)), [len(each) for each in texts])
    reading = encoded.read([text for each in texts for text in each])
    pairs = Pairs(reading, encoded.see(paths), owners, np.arange(len(rows)))
    # Where there is a tower, it comes first, and what it sees is what any method is given.
    first = encoded.image_encoders[0]
    tower = first.id not in INPUT_SIDES
    return Paired(pairs, pairs.sight.features[:, : first.dimension] if tower else _plain(encoded, paths))


def _plain(encoded: Encoded, paths: list[Path]) -> Array:
    """The last layer's mean over the whole picture, both networks one after the other: [n, 2560]."""
    names = [str(path.relative_to(path.parents[2])) for path in paths]
    return encoded.cached(
        "plain", encoded.image_encoders, names, lambda: {"features": _pooled(encoded, paths)}
    )["features"]


def _pooled(encoded: Encoded, paths: list[Path]) -> Array:
    towers = [(_whole_pictures(encoder.id), encoder.side) for encoder in encoded.image_encoders]
    rows = []
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        rows.append(
            np.concatenate(
                [session.run(None, {"pixels": squash(pixels, side)[None]})[0][0] for session, side in towers]
            )
        )
    return np.stack(rows)


def _whole_pictures(model_id: str) -> Any:
    """The prepared network cut off where the last of its pool windows, the whole map, has been averaged."""
    import onnx
    from onnx import helper

    from ml.encoders._onnx import open_session

    model = onnx.load(str(find_model(model_id).path))
    pooled = next(node.output[0] for node in model.graph.node if "pooling" in node.input)
    last = helper.make_node("Gather", [pooled, "last"], ["whole"], axis=2)
    model.graph.initializer.append(helper.make_tensor("last", onnx.TensorProto.INT64, [], [13]))
    model.graph.node.append(last)
    del model.graph.output[:]
    model.graph.output.append(helper.make_empty_tensor_value_info("whole"))
    return open_session(model.SerializeToString())
