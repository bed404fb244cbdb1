"""Any Hugging Face sound classifier as a detector of synthetic speech: ``hf-sound:<folder or hub id>#spoof``.

Sound is cut into stretches of some seconds; a recording's score is the median of its highest fifth. The argument is
that of ``hf-image``; ``?seconds=4`` sets the length of a stretch to what the model was trained on.
"""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

import numpy as np

from ml.auditing.calibration import Calibration
from ml.detectors._checkpoint import RATE, Checkpoint
from ml.detectors._learned import Argument, finding_of_score, synthetic_columns, top_median
from ml.detectors.base import Detector, Finding, Item

SECONDS = 4.0
#: Stretches that are looked at, evenly over the recording.
MOST = 24
#: A root mean square below this is silence.
SILENT = 1e-3


class HfSound(Detector):
    tier = "statistical"
    modalities: ClassVar = frozenset({"audio", "video"})
    sees = "Synthetic speech or sound of the kinds that its model was trained on."
    blind_to = (
        "Voices that came after its model, telephone lines, strong compression. Without a calibration it moves no "
        "verdict."
    )
    timeout_s = 180.0
    estimates = "generation"
    looks_for = ("synthetic_speech",)

    def __init__(self, argument: str) -> None:
        self.name = f"hf-sound:{argument}"
        self._argument = Argument.parse(argument, ("calibration", "seconds"))
        if not self._argument.model:
            raise ValueError("hf-sound needs a model: hf-sound:/path/to/folder#label-that-means-synthetic")
        self._seconds = float(self._argument.options.get("seconds") or SECONDS)
        if not 0.5 <= self._seconds <= 30:
            raise ValueError("seconds is the length of a stretch, 0.5 to 30")
        self._checkpoint = Checkpoint(self._argument.model, "audio")

    @cached_property
    def version(self) -> str:  # type: ignore[override]
        return self._checkpoint.version(*self._argument.identity())

    def missing(self) -> str:
        return self._checkpoint.missing() or self._argument.calibration_problem()

    def examine(self, item: Item) -> Finding:
        if not len(item.sound):
            return Finding("not_applicable", "There is no sound in it.")
        step = round(self._seconds * RATE)
        starts = np.arange(0, max(1, len(item.sound) - step // 2), step)
        loud = [at for at in starts.tolist() if np.sqrt(np.mean(item.sound[at : at + step] ** 2)) > SILENT]
        if not loud or len(item.sound) < RATE:
            return Finding("abstained", "There is less than a second of sound in it, or only silence.")
        chosen = [loud[at] for at in np.unique(np.linspace(0, len(loud) - 1, MOST).round().astype(int))]
        columns = synthetic_columns(self._checkpoint.labels, self._argument.labels)
        scores = [
            float(self._checkpoint.sound(item.sound[at : at + step])[0, columns].sum()) for at in chosen
        ]
        highest = sorted(zip(scores, chosen, strict=True), reverse=True)[:5]
        evidence = [
            {
                "kind": "stretch",
                "start_s": at / RATE,
                "end_s": min(at + step, len(item.sound)) / RATE,
                "score": round(score, 4),
            }
            for score, at in highest
        ]
        return finding_of_score(top_median(scores), self._calibration, evidence)

    @cached_property
    def _calibration(self) -> Calibration | None:
        return self._argument.calibration()


def load(argument: str) -> Detector:
    """Raises ValueError without a model, and for unknown options."""
    return HfSound(argument)
