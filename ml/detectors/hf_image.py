"""Any Hugging Face picture classifier as a detector: ``hf-image:<folder or hub id>#artificial?calibration=/path.json``.

Behind ``#`` stands the label that means "synthetic" (several: ``#fake+deepfake``); without it the model's own label is
taken where it says so. Films are examined frame by frame.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from ml.auditing.calibration import Calibration
from ml.detectors._checkpoint import Checkpoint
from ml.detectors._learned import Argument, examine_pictures, synthetic_columns
from ml.detectors.base import Detector, Finding, Item, Pixels


class HfImage(Detector):
    tier = "statistical"
    modalities: ClassVar = frozenset({"image", "video"})
    sees = "Generated or manipulated pictures of the kinds that its model was trained on."
    blind_to = (
        "Generators that came after its model, and often JPEG or small copies of those it knows; published detectors "
        "lose half their accuracy on content in the wild. Without a calibration it moves no verdict."
    )
    timeout_s = 120.0
    estimates = "generation"
    looks_for = ("generated_pictures",)

    def __init__(self, argument: str) -> None:
        self.name = f"hf-image:{argument}"
        self._argument = Argument.parse(argument)
        if not self._argument.model:
            raise ValueError("hf-image needs a model: hf-image:/path/to/folder#label-that-means-synthetic")
        self._checkpoint = Checkpoint(self._argument.model, "image")

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        return self._checkpoint.version(*self._argument.identity())

    def missing(self) -> str:
        return self._checkpoint.missing() or self._argument.calibration_problem()

    def examine(self, item: Item) -> Finding:
        columns = synthetic_columns(self._checkpoint.labels, self._argument.labels)

        def look(pixels: Pixels) -> float:
            return float(self._checkpoint.pictures([pixels])[0, columns].sum())

        return examine_pictures(item, look, self._calibration)

    @cached_property
    def _calibration(self) -> Calibration | None:
        return self._argument.calibration()


def load(argument: str) -> Detector:
    """Raises ValueError without a model, and for unknown options."""
    return HfImage(argument)
