"""Words in pictures and films: PP-OCR (Apache-2.0) as the package rapidocr carries it, Chinese and English, offline.

The words go to the detectors that read; this one judges nothing. Its models are given by path, since the package would
fetch whatever is not named.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml.detectors.base import Detector, Finding, Item, Pixels, Words

#: The longest side at which text is looked for: letters of 12 px in a picture of 1024 are still found, at half of what
#: 1024 costs. What is found is read at full size.
SIDE = 640
#: Where text might be: bounds the time that a page of small print takes.
MAX_LINES = 80
MAX_CHARS = 20_000
#: Of a film: frames that differ most.
MAX_SHOTS = 4
#: Mean difference of grey thumbnails (0 to 255) below which two frames show the same.
SAME = 6.0
SMALLEST = 24
#: A line read with less confidence is left out.
LEAST_CONFIDENCE = 0.6

_MODELS = {
    "Det.model_path": "PP-OCRv6_det_small.onnx",
    "Rec.model_path": "PP-OCRv6_rec_small.onnx",
    "Cls.model_path": "ch_ppocr_mobile_v2.0_cls_mobile.onnx",
}


class LineReader:
    """Reads the lines of pictures: at most ``most`` of them, looked for at ``side`` pixels, read at ``longest``."""

    def __init__(self, side: int = SIDE, longest: int = 1024, most: int = MAX_LINES) -> None:
        self._side, self._longest, self._most = side, longest, most

    @staticmethod
    def missing() -> str:
        """What is not installed, "" where nothing lacks."""
        if find_spec("rapidocr") is None:
            return "The package rapidocr is not installed: pip install rapidocr"
        absent = [name for name in _MODELS.values() if not (_folder() / name).is_file()]
        return f"The installed rapidocr lacks {', '.join(absent)}: install rapidocr 3.10" if absent else ""

    def read(self, pixels: Pixels) -> list[tuple[str, NDArray[np.float32], float]]:
        """The lines of a picture from top to bottom: text, box [4, 2] in pixels, confidence."""
        if _is_flat(pixels):
            return []
        # OpenCV's order of colours is the other way round.
        found = self._engine(np.ascontiguousarray(pixels[..., ::-1]))
        if found.boxes is None or found.txts is None:
            return []
        lines = zip(found.txts, found.boxes, found.scores, strict=True)
        return [
            (text.strip(), np.asarray(box, np.float32), float(confidence))
            for text, box, confidence in lines
            if confidence >= LEAST_CONFIDENCE and text.strip()
        ]

    def load(self) -> None:
        """Open the models now: afterwards no file has to be opened."""
        _ = self._engine

    @cached_property
    def _engine(self) -> Any:
        from rapidocr import RapidOCR

        threads = int(os.environ.get("CROSSLIGHT_ENCODER_THREADS") or 1)
        return RapidOCR(
            params={
                **{setting: str(_folder() / name) for setting, name in _MODELS.items()},
                "Global.log_level": "error",
                "Global.use_cls": False,
                "Global.max_side_len": self._longest,
                "Det.limit_type": "max",
                "Det.limit_side_len": self._side,
                "Det.max_candidates": self._most,
                "EngineConfig.onnxruntime.intra_op_num_threads": threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            }
        )


class Ocr(Detector):
    name = "ocr"
    version = "1"
    tier = "rules"
    modalities: ClassVar = frozenset({"image", "video"})
    sees = "Printed and clear handwritten words, Chinese and English, for the detectors that read."
    blind_to = (
        "Text upside down or on its side, letters below some 10 pixels of 1024, other scripts; of films, all frames"
        " but the four that differ most."
    )
    timeout_s = 60.0
    order = 10

    def missing(self) -> str:
        return LineReader.missing()

    def examine(self, item: Item) -> Finding:
        pictures = _pictures(item)
        if not pictures:
            return Finding("not_applicable", "There is no picture in it that could hold words.")
        words, evidence = [], []
        for at_s, pixels in pictures:
            lines = self._lines.read(pixels)
            if not lines:
                continue
            text, places = _joined([line for line, _, _ in lines])
            words.append(Words(text, "picture", at_s))
            for (_, box, confidence), (start, end) in zip(lines, places, strict=False):
                evidence.append(_evidence(box, confidence, pixels, at_s, start, end))
        return Finding(words=words, evidence=evidence)

    @cached_property
    def _lines(self) -> LineReader:
        return LineReader()


def load(argument: str) -> Detector:
    return Ocr()


def _folder() -> Path:
    spec = find_spec("rapidocr")
    return Path(str(spec.origin)).parent / "models" if spec and spec.origin else Path("/nowhere")


def _pictures(item: Item) -> list[tuple[float | None, Pixels]]:
    if item.modality == "image":
        found: list[tuple[float | None, Pixels]] = [(None, item.pixels)] if item.pixels is not None else []
    else:
        found = [(shot.at_s, shot.pixels) for shot in item.shots]
        found = [found[at] for at in most_different([pixels for _, pixels in found], MAX_SHOTS)]
    return [(at_s, pixels) for at_s, pixels in found if min(pixels.shape[:2]) >= SMALLEST]


def most_different(pictures: Sequence[Pixels], most: int) -> list[int]:
    """Numbers of at most ``most`` pictures, in order: the first, then always the one least like those taken."""
    if not pictures:
        return []
    small = np.stack([_thumbnail(pixels) for pixels in pictures])
    taken, distances = [0], np.abs(small - small[0]).mean(axis=(1, 2))
    while len(taken) < most and distances.max() > SAME:
        taken.append(int(distances.argmax()))
        distances = np.minimum(distances, np.abs(small - small[taken[-1]]).mean(axis=(1, 2)))
    return sorted(taken)


def _thumbnail(pixels: Pixels) -> NDArray[np.float32]:
    """Grey, float32 [36, 64], by the nearest pixels: quick, and enough to tell frames apart."""
    rows = np.linspace(0, pixels.shape[0] - 1, 36).astype(int)
    columns = np.linspace(0, pixels.shape[1] - 1, 64).astype(int)
    return pixels[np.ix_(rows, columns)].astype(np.float32).mean(axis=2)


def _is_flat(pixels: Pixels) -> bool:
    """No edge anywhere that a letter could have: looking for text would cost a fifth of a second."""
    grey = pixels[::2, :, 1].astype(np.int16)
    return bool(grey.shape[1] < 2 or np.abs(np.diff(grey, axis=1)).max() < 12)


def _joined(lines: Sequence[str]) -> tuple[str, list[tuple[int, int]]]:
    """The lines as one text of bounded length, and where each stands in it."""
    text, places = "", []
    for line in lines:
        if len(text) + len(line) >= MAX_CHARS:
            break
        text += "\n" if text else ""
        places.append((len(text), len(text) + len(line)))
        text += line
    return text, places


def _evidence(
    box: NDArray[np.float32], confidence: float, pixels: Pixels, at_s: float | None, start: int, end: int
) -> Mapping[str, Any]:
    """``box``: the four corners as shares of width and height. The words themselves are not repeated here."""
    height, width = pixels.shape[:2]
    shares = np.clip(box.astype(np.float64) / [width, height], 0, 1)
    corners = shares.round(4).tolist()
    found = {"kind": "words", "box": corners, "confidence": round(confidence, 3), "start": start, "end": end}
    return found if at_s is None else found | {"at_s": at_s}
