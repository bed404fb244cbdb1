"""A picture classifier in ONNX as a detector: ``onnx-image:/models/detector.onnx#fake?calibration=/path.json``.

The argument is that of ``hf-image``. Preprocessing and labels are read from ``preprocessor_config.json`` and
``config.json`` beside the file (as exporters of Hugging Face models write them); where there are none, options say what
the model was trained with: ``size=224``, ``mean=0.485,0.456,0.406``, ``std=…``, ``output=logits|probabilities``,
``labels=real,fake``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.auditing.calibration import Calibration
from ml.detectors._learned import Argument, Scores, digest, examine_pictures, softmax, synthetic_columns
from ml.detectors.base import Detector, Finding, Item, Pixels

OPTIONS = ("calibration", "size", "mean", "std", "output", "labels")
LARGEST_SIDE = 2_048


@dataclass(frozen=True)
class Preparation:
    """How a picture becomes the model's input: resized to ``height`` x ``width``, divided by 255, normalised."""

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (1 <= self.height <= LARGEST_SIDE and 1 <= self.width <= LARGEST_SIDE):
            raise ValueError(f"the model's pictures have sides of 1 to {LARGEST_SIDE}")
        if len(self.mean) != 3 or len(self.std) != 3 or not all(value > 0 for value in self.std):
            raise ValueError("mean and std are three numbers each, and std is above 0")

    def __call__(self, pixels: Pixels) -> NDArray[np.float32]:
        """uint8 [h, w, 3] to float32 [1, 3, height, width]."""
        small = Image.fromarray(pixels).resize((self.width, self.height), Image.Resampling.BICUBIC)
        values = (np.asarray(small, np.float32) / 255 - np.asarray(self.mean)) / np.asarray(self.std)
        return np.ascontiguousarray(values.transpose(2, 0, 1)[None], np.float32)


class OnnxImage(Detector):
    tier = "statistical"
    modalities: ClassVar = frozenset({"image", "video"})
    sees = "Generated or manipulated pictures of the kinds that its model was trained on."
    blind_to = (
        "Generators that came after its model, and often JPEG or small copies of those it knows. Without a calibration "
        "it moves no verdict."
    )
    timeout_s = 120.0
    estimates = "generation"
    looks_for = ("generated_pictures",)

    def __init__(self, argument: str) -> None:
        self.name = f"onnx-image:{argument}"
        self._argument = Argument.parse(argument, OPTIONS)
        if not self._argument.model:
            raise ValueError(
                "onnx-image needs a file: onnx-image:/path/to/model.onnx#label-that-means-synthetic"
            )
        self._path = Path(self._argument.model).expanduser()
        if self._argument.options.get("output", "logits") not in ("logits", "probabilities"):
            raise ValueError("output is logits or probabilities")

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        if not self._path.is_file():
            return "absent"
        beside = self._path.parent.glob("*config.json")
        return digest([self._path, *beside], *self._argument.identity())

    def missing(self) -> str:
        if find_spec("onnxruntime") is None:
            return "onnxruntime is not installed: pip install onnxruntime"
        if not self._path.is_file():
            return f"There is no file {self._argument.model!r} on this machine."
        return self._argument.calibration_problem()

    def examine(self, item: Item) -> Finding:
        columns: list[int] | None = None

        def look(pixels: Pixels) -> float:
            nonlocal columns
            scores = self._run(pixels)
            columns = columns or synthetic_columns(self._labels(scores.shape[1]), self._argument.labels)
            return float(scores[0, columns].sum())

        return examine_pictures(item, look, self._calibration)

    def _run(self, pixels: Pixels) -> Scores:
        feed = {self._session.get_inputs()[0].name: self._prepare(pixels)}
        values = np.asarray(self._session.run(None, feed)[0], np.float32)
        if values.ndim != 2 or values.shape[0] != 1 or not np.isfinite(values).all():
            raise ValueError(f"the model's output is {list(values.shape)}, not finite numbers [1, classes]")
        return values if self._argument.options.get("output") == "probabilities" else softmax(values)

    def _labels(self, count: int) -> Sequence[str]:
        given = self._argument.options.get("labels")
        named = (
            given.split(",")
            if given
            else list(dict(self._beside("config.json").get("id2label", {})).values())
        )
        if named and len(named) != count:
            raise ValueError(f"the model has {count} outputs, and {len(named)} labels are given")
        # A single output is the probability of what the model looks for.
        return named or (["synthetic"] if count == 1 else [str(at) for at in range(count)])

    @cached_property
    def _session(self) -> Any:
        from ml.encoders._onnx import open_session

        session = open_session(self._path)
        if len(session.get_inputs()) != 1:
            raise ValueError("a picture classifier has one input")
        return session

    @cached_property
    def _prepare(self) -> Callable[[Pixels], NDArray[np.float32]]:
        if (self._path.parent / "preprocessor_config.json").is_file():
            return _processor(self._path.parent)
        options = self._argument.options
        sides = [side for side in self._session.get_inputs()[0].shape[-2:] if isinstance(side, int)]
        if not options.get("size") and len(sides) != 2:
            raise ValueError("what size has the model's input? Say ?size=224")
        height, width = [int(options["size"])] * 2 if options.get("size") else sides
        half = "0.5,0.5,0.5"
        return Preparation(
            height, width, _numbers(options.get("mean") or half), _numbers(options.get("std") or half)
        )

    def _beside(self, name: str) -> dict[str, Any]:
        path = self._path.parent / name
        try:
            found = json.loads(path.read_bytes()) if path.is_file() else {}
        except ValueError as error:
            raise ValueError(f"{path} is not JSON: {error}") from error
        return found if isinstance(found, dict) else {}

    @cached_property
    def _calibration(self) -> Calibration | None:
        return self._argument.calibration()


def _processor(folder: Path) -> Callable[[Pixels], NDArray[np.float32]]:
    """The preprocessing that the exporter wrote down, done by the library that it comes from."""
    from transformers import AutoImageProcessor

    prepare = AutoImageProcessor.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)

    def run(pixels: Pixels) -> NDArray[np.float32]:
        feed = prepare(images=[Image.fromarray(pixels)], return_tensors="pt")
        return np.asarray(feed["pixel_values"], np.float32)

    return run


def _numbers(given: str) -> tuple[float, ...]:
    return tuple(float(value) for value in given.split(","))


def load(argument: str) -> Detector:
    """Raises ValueError without a file, and for unknown options."""
    return OnnxImage(argument)
