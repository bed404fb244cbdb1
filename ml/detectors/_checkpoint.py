"""A Hugging Face classifier of pictures or sounds, loaded from this machine: safetensors only, no code of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from ml.auditing.speech_features import resample
from ml.detectors._learned import Scores, digest, sigmoid, softmax
from ml.detectors.base import Pixels, Samples

RATE = 16_000
CLASSES = {
    "image": ("AutoModelForImageClassification", "AutoImageProcessor"),
    "audio": ("AutoModelForAudioClassification", "AutoFeatureExtractor"),
}


class CheckpointError(RuntimeError):
    """The checkpoint is not what it should be; the message says what is wrong."""


class Checkpoint:
    """The classifier at ``name``, a folder or a hub id in the cache. Loads at the first use; never fetches."""

    def __init__(self, name: str, kind: Literal["image", "audio"]) -> None:
        self.name, self.kind = name, kind

    def missing(self) -> str:
        """Empty, or why it cannot be used here. Loads nothing."""
        absent = [package for package in ("torch", "transformers") if find_spec(package) is None]
        if absent:
            return f"{' and '.join(absent)} not installed: pip install {' '.join(absent)}"
        folder = checkpoint_folder(self.name)
        if folder is None:
            return (
                f"There is no model at {self.name!r} on this machine: give a folder, or put it into HF_HOME."
            )
        if not list(folder.glob("*.safetensors")):
            return (
                f"{self.name!r} has no *.safetensors: other formats can run code on loading and are refused."
            )
        return ""

    def version(self, *more: str) -> str:
        """Digits over its weights, configuration and ``more``; "absent" where there is none."""
        folder = checkpoint_folder(self.name)
        if folder is None:
            return "absent"
        return digest([*folder.glob("*.safetensors"), *folder.glob("*config.json")], *more)

    @property
    def labels(self) -> list[str]:
        config = self._model.config
        return [str(config.id2label.get(at, at)) for at in range(config.num_labels)]

    def pictures(self, batch: Sequence[Pixels]) -> Scores:
        """uint8 [h, w, 3] pictures to probabilities [n, labels]; prepared as the checkpoint says."""
        feed = self._prepare(images=[Image.fromarray(picture) for picture in batch], return_tensors="pt")
        return self._probabilities({"pixel_values": feed["pixel_values"]})

    def sound(self, samples: Samples) -> Scores:
        """Float32 [n] at 16 kHz to probabilities [1, labels], at the checkpoint's own rate."""
        rate = int(getattr(self._prepare, "sampling_rate", RATE))
        feed = self._prepare(resample(samples, RATE, rate), sampling_rate=rate, return_tensors="pt")
        return self._probabilities(dict(feed))

    def _probabilities(self, feed: dict[str, Any]) -> Scores:
        import torch

        with torch.inference_mode():
            logits = self._model(**feed).logits.float().numpy()
        if logits.ndim != 2 or not np.isfinite(logits).all():
            raise CheckpointError("the model's scores are no numbers: its weights are damaged")
        several = self._model.config.problem_type == "multi_label_classification"
        return sigmoid(logits) if several else softmax(logits)

    @cached_property
    def _folder(self) -> Path:
        folder = checkpoint_folder(self.name)
        if folder is None or self.missing():
            raise CheckpointError(self.missing())
        return folder

    @cached_property
    def _model(self) -> Any:
        import torch
        import transformers

        torch.set_num_threads(1)
        try:
            model, report = getattr(transformers, CLASSES[self.kind][0]).from_pretrained(
                str(self._folder),
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
            )
        except Exception as error:
            # Damaged or foreign files raise whatever the reader of that part raises.
            raise CheckpointError(f"{self.name!r} cannot be loaded: {str(error)[:300]}") from error
        # The mask of training is left out of some checkpoints and is not used here.
        lacking = [str(key) for key in report["missing_keys"] if "masked_spec_embed" not in str(key)]
        lacking += [str(key) for key in report.get("mismatched_keys") or ()]
        if lacking:
            # A fresh head would give random scores that look like answers.
            first = min(lacking)
            raise CheckpointError(
                f"{self.name!r} holds no trained classifier: {first} is missing from its weights"
            )
        return model.eval()

    @cached_property
    def _prepare(self) -> Any:
        import transformers

        try:
            return getattr(transformers, CLASSES[self.kind][1]).from_pretrained(
                str(self._folder), trust_remote_code=False, local_files_only=True
            )
        except Exception as error:
            raise CheckpointError(f"{self.name!r} has no usable preprocessing: {str(error)[:300]}") from error


def checkpoint_folder(name: str) -> Path | None:
    """The folder with the files of ``name``, if they are on this machine."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path if (path / "config.json").is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None
