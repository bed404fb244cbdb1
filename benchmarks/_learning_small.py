"""Small and fast models: INT8 beside the eager fp32 of the same encoder, students beside their teachers.

Every time is CPU time of one thread, measured in turns, so that other work on the machine slows both alike: ratios are
what counts. Texts are real ones (photo captions, bank customers' questions) in batches as they come: eager pads them.
"""

from __future__ import annotations

import os

os.environ["CROSSLIGHT_ENCODER_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _data import CACHE, DATA, Encoded, rows_of
from _learning_small_texts import MEASURED, banking, write_texts
from _measures import recall
from _report import Line, at_least, at_most, sized
from numpy.typing import NDArray

from ml.alignment.colours import colour_words
from ml.alignment.features import ImageFeatures, TextFeatures
from ml.alignment.space import JointSpace
from ml.compression.export import export
from ml.compression.prepare import weights_file
from ml.compression.store import ExportMissing, find_export, find_model
from ml.compression.towers import tower_of
from ml.encoders.base import Encoder, load_encoder
from research.compression.measure import in_turns

Array = NDArray[Any]
Encode = Callable[[Sequence[Any]], Array]

FASTER = {1: 3.0, 16: 4.0}
BATCHES = tuple(FASTER)
#: Inputs a latency is the median over, and how often each is timed.
TIMED, ROUNDS = sized(96, 4), sized(3, 1)
#: Three layers take .57 to .61 of their teacher's time, since reading tokens costs the same: two are needed for half.
SHAPE = {"teacher": "onnx:minilm", "layers": [0, 5], "vocabulary": 12_000}
EPOCHS = 1
TOWERS = ("efficientnet-lite0", "efficientnet-lite2")


@dataclass(frozen=True)
class Row:
    """One model of the table: size, CPU ms an item at batch 1 and 16, R@1 in percent by what was searched."""

    name: str
    megabytes: float
    ms: dict[int, float]
    recall: dict[str, float]

    def text(self) -> str:
        times = " ".join(f"{self.ms[batch]:8.2f}" for batch in BATCHES)
        found = "  ".join(f"{what} {value:.1f}" for what, value in self.recall.items())
        return f"  {self.name:38}{self.megabytes:7.1f} {times}   {found}"


def run() -> list[Line]:
    """Both modalities; sets that are absent are said."""
    photos, questions = rows_of("flickr8k_1k"), banking(MEASURED)
    if photos is None or not questions[0]:
        return [Line("small models", "skipped: no data")]
    bench = Bench(photos, questions)
    lines = [*bench.texts(), *bench.pictures()]
    print(f"\n  {'model':38}{'MB':>7} {'ms at 1':>8} {'ms at 16':>8}   R@1 %")
    for row in bench.rows:
        print(row.text())
    return lines


class Bench:
    def __init__(self, photos: list[dict[str, Any]], questions: tuple[list[str], list[str]]) -> None:
        self.space = JointSpace.load()
        self.encoded = Encoded(self.space)
        self.paths = [DATA / "flickr8k_1k" / photo["path"] for photo in photos]
        self.captions = [text for photo in photos for text in photo["text"]]
        self.owners = [[row] for row, photo in enumerate(photos) for _ in photo["text"]]
        self.questions, self.intents = questions
        self.rows: list[Row] = []

    # --- Text ------------------------------------------------------------------------------------------------

    def texts(self) -> list[Line]:
        original, ours = tower_of("bundled:minilm").reference, exported("bundled:minilm", "minilm")
        lines = []
        for name, texts in (("questions", self.questions), ("captions", self.captions)):
            lines += self.faster(f"text, {name}", original, ours.encode, shuffled(texts))
        eager_ms, int8_ms = self.ms
        eager = self.text_row("MiniLM, torch fp32", original, 90.9, eager_ms)
        int8 = self.text_row("MiniLM, onnx INT8", ours.encode, size_of("minilm"), int8_ms)
        lines += [within(f"text, INT8: R@1 lost, {name}", eager, int8, name, 1.0) for name in eager.recall]
        student, name = self.student(), "student of MiniLM"
        times = {
            batch: timed(ours.encode, student.encode, shuffled(self.captions), batch) for batch in BATCHES
        }
        student_ms = {batch: both[1] for batch, both in times.items()}
        small = self.text_row(
            "student: 2 layers, 12,000 pieces, INT8", student.encode, size_of("minilm-student"), student_ms
        )
        shares = {batch: both[1] / both[0] for batch, both in times.items()}
        return lines + smaller(name, int8, small, shares)

    def text_row(self, name: str, encode: Encode, megabytes: float, ms: dict[int, float]) -> Row:
        found = {"text to photo": self.to_photos(encode), "same intent": self.same_intent(encode)}
        self.rows.append(Row(name, megabytes, ms, found))
        return self.rows[-1]

    def to_photos(self, encode: Encode) -> float:
        """R@1 of captions among all photos, both in the default space."""
        reading = TextFeatures(encode(self.captions), colour_words(self.captions))
        return self.found(self.space.project_text(reading), self.encoded.embed_pictures(self.paths))

    def found(self, texts: Array, pictures: Array) -> float:
        return recall(texts @ pictures.T, self.owners).at[0]

    def same_intent(self, encode: Encode) -> float:
        """How often the nearest other question has the same intent."""
        vectors, intents = encode(self.questions), np.array(self.intents)
        scores = vectors @ vectors.T
        np.fill_diagonal(scores, -np.inf)
        return float(100 * (intents[scores.argmax(1)] == intents).mean())

    def student(self) -> Encoder:
        """Trained here the first time (some four minutes of a quiet core), then kept."""
        from research.compression.distilling import distil

        out = CACHE / "student-2-layers"
        if not (out / "result.json").exists():
            print("  training the student …", flush=True)
        folder = distil(out, [str(write_texts(CACHE / "student-texts"))], SHAPE, EPOCHS, _note)
        return exported(f"hf:{folder}", "minilm-student")

    # --- Pictures --------------------------------------------------------------------------------------------

    def pictures(self) -> list[Line]:
        lines, originals, ours, ms = [], {}, {}, {}
        for model_id in TOWERS:
            originals[model_id] = tower_of(f"bundled:{model_id}").reference
            encoder = load_encoder(f"bundled:{model_id}")
            ours[model_id] = encoder.encode
            pictures = squashed(self.paths, encoder.side)
            lines += self.faster(f"picture, {model_id}", originals[model_id], encoder.encode, pictures)
            ms[model_id] = self.ms
        texts = self.encoded.embed_texts(self.captions)
        eager = self.picture_row(
            "Lite2 + Lite0, torch fp32", "fp32", originals, texts, [one[0] for one in ms.values()]
        )
        pair = self.picture_row(
            "Lite2 + Lite0, onnx INT8", "int8", ours, texts, [one[1] for one in ms.values()]
        )
        lite0 = TOWERS[0]
        alone = self.picture_row(
            "Lite0 alone, onnx INT8", "int8", {lite0: ours[lite0]}, texts, [ms[lite0][1]]
        )
        lines += [within(f"picture, INT8: R@1 lost, {name}", eager, pair, name, 1.0) for name in eager.recall]
        shares = {batch: alone.ms[batch] / pair.ms[batch] for batch in BATCHES}
        return lines + smaller("Lite0 alone for the pair", pair, alone, shares)

    def picture_row(
        self, name: str, kind: str, towers: dict[str, Encode], texts: Array, ms: list[dict[int, float]]
    ) -> Row:
        seen = np.mean(
            [self.probabilities(tower, kind, encode) for tower, encode in towers.items()],
            axis=0,
            dtype=np.float32,
        )
        sight = self.encoded.see(self.paths)
        placed = self.space.project_image(ImageFeatures(seen, sight.features, sight.colours))
        megabytes = sum(megabytes_of(tower, kind) for tower in towers)
        together = {batch: sum(one[batch] for one in ms) for batch in BATCHES}
        self.rows.append(Row(name, megabytes, together, {"text to photo": self.found(texts, placed)}))
        return self.rows[-1]

    def probabilities(self, tower: str, kind: str, encode: Encode) -> Array:
        """[n, 1000] of all photos, kept on disk: fp32 takes a minute or two."""
        path = (
            CACHE / f"small-{tower}-{kind}-{load_encoder(f'bundled:{tower}').version}-{len(self.paths)}.npy"
        )
        if not path.exists():
            rows = [encode([self.encoded.decoder.image(one, thumbnail=False).pixels]) for one in self.paths]
            np.save(path, np.concatenate(rows))
        found: Array = np.load(path)
        return found

    def faster(self, name: str, original: Encode, ours: Encode, items: list[Any]) -> list[Line]:
        """How many times as fast as eager fp32, in turns."""
        lines = []
        self.ms: tuple[dict[int, float], dict[int, float]] = ({}, {})
        for batch, least in FASTER.items():
            eager, small = timed(original, ours, items, batch)
            self.ms[0][batch], self.ms[1][batch] = eager, small
            lines.append(
                at_least(f"{name}: INT8 against eager fp32, batch {batch}", eager / small, least, "times")
            )
        return lines


def exported(spec: str, name: str) -> Encoder:
    """``onnx:name``, exported anew where it was made from another source."""
    try:
        if find_export(name).entry["source_version"] == tower_of(spec).version:
            return load_encoder(f"onnx:{name}")
    except ExportMissing:
        pass
    export(spec, name)
    return load_encoder(f"onnx:{name}")


def size_of(name: str) -> float:
    """MB of the model file: the tokenizer is the same for all."""
    return find_export(name).model.stat().st_size / 1e6


def megabytes_of(tower: str, kind: str) -> float:
    """Of the prepared INT8 file, or of the original weights."""
    path = find_model(tower).path if kind == "int8" else weights_file(tower)
    return path.stat().st_size / 1e6


def smaller(name: str, teacher: Row, student: Row, shares: dict[int, float]) -> list[Line]:
    """Size, time and R@1 of a student beside its teacher's."""
    lines = [at_most(f"{name}: size, share of its teacher's", student.megabytes / teacher.megabytes, 0.5, "")]
    lines += [
        at_most(f"{name}: time, share of its teacher's, batch {batch}", one, 0.5, "")
        for batch, one in shares.items()
    ]
    return lines + [
        within(f"{name}: R@1 lost, {what}", teacher, student, what, 3.0) for what in teacher.recall
    ]


def timed(one: Encode, other: Encode, items: list[Any], batch: int) -> tuple[float, float]:
    """CPU ms an item of both, the median over batches."""
    batches = [items[at : at + batch] for at in range(0, min(len(items), TIMED if batch > 1 else 24), batch)]
    times = [in_turns(partial(one, part), partial(other, part), ROUNDS) for part in batches]
    return median(t[0] for t in times) / batch, median(t[1] for t in times) / batch


def shuffled(texts: list[str]) -> list[str]:
    order = np.random.default_rng(0).permutation(len(texts))
    return [texts[row] for row in order[:TIMED]]


def squashed(paths: list[Path], side: int) -> list[Array]:
    """Pictures of the right size already: the resize is the same for both."""
    from PIL import Image

    return [np.asarray(Image.open(path).convert("RGB").resize((side, side))) for path in paths[:32]]


def within(what: str, teacher: Row, other: Row, name: str, points: float) -> Line:
    return at_most(what, teacher.recall[name] - other.recall[name], points, "points")


def _note(line: str) -> None:
    if '"curve"' in line:
        print(f"    {line[:160]}", flush=True)


if __name__ == "__main__":
    for line in run():
        print(line.shown())
