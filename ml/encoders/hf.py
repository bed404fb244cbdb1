"""Any Hugging Face model in safetensors as an encoder: ``hf:<id or folder>``, with ``#text`` or ``#image``.

CLIP (Radford et al. 2021, arXiv:2103.00020) and SigLIP (Zhai et al. 2023, arXiv:2303.15343) have both towers;
``#`` picks one, image without it. Other text models give the mean over tokens, other image models their
pooled output (Sentence-BERT, arXiv:1908.10084; ViT, arXiv:2010.11929; ResNet, arXiv:1512.03385).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.encoders._hub import model_folder, weight_files
from ml.encoders._torch import as_images, in_batches, pick_device, unit, weights_version
from ml.encoders.base import Encoder, EncoderUnavailable, Modality, Vectors, as_text

MAX_TOKENS = 512


class HuggingFaceEncoder(Encoder):
    """A model loaded with AutoModel; rows of norm 1. Never runs code from the repository it loads."""

    def __init__(self, name: str, modality: Modality | None) -> None:
        folder = model_folder(name)
        weights = weight_files(folder)
        self._model, missing = _load_model(folder)
        # A checkpoint of another task has no pooler: the fresh one that transformers adds is noise.
        self._pooler = not missing
        self.modality = modality or _guess_modality(self._model)
        self.id = f"hf:{name}#{self.modality}"
        self.version = weights_version(weights)
        self.device = pick_device()
        self._model.eval().to(self.device)
        self._prepare = _load_processor(folder, self.modality)
        self._two_towers = hasattr(self._model, "get_text_features")
        self._check_tower()
        self.dimension = self._measure_dimension()

    def encode(self, batch: Sequence[Any]) -> Vectors:
        """Strings or uint8 pictures [h, w, 3] to float32 [n, dimension], rows of norm 1."""
        run = self._encode_texts if self.modality == "text" else self._encode_pictures
        return in_batches(run, batch, self.dimension)

    def _encode_texts(self, batch: Sequence[Any]) -> Any:
        # SigLIP was trained on texts padded to their full length, and reads shorter ones wrongly.
        padding = "max_length" if "siglip" in self._model.config.model_type else True
        feed = self._prepare(
            [as_text(text) for text in batch],
            padding=padding,
            truncation=True,
            max_length=self._max_tokens(),
            return_tensors="pt",
        ).to(self.device)
        if self._two_towers:
            return unit(_tensor(self._model.get_text_features(**feed)))
        return unit(_mean_pooled(self._model(**feed).last_hidden_state, feed["attention_mask"]))

    def _encode_pictures(self, batch: Sequence[Any]) -> Any:
        feed = self._prepare(images=as_images(batch), return_tensors="pt").to(self.device)
        if self._two_towers:
            return unit(_tensor(self._model.get_image_features(pixel_values=feed["pixel_values"])))
        return unit(_tensor(self._model(pixel_values=feed["pixel_values"]), pooler=self._pooler))

    def _max_tokens(self) -> int:
        config = getattr(self._model.config, "text_config", self._model.config)
        return int(
            min(self._prepare.model_max_length, getattr(config, "max_position_embeddings", MAX_TOKENS))
        )

    def _check_tower(self) -> None:
        guessed = _guess_modality(self._model)
        if not self._two_towers and guessed != self.modality:
            raise EncoderUnavailable(f"{self.id}: the model has no {self.modality} tower, only {guessed}")

    def _measure_dimension(self) -> int:
        import numpy as np

        self.dimension = 0
        probe = "a" if self.modality == "text" else np.zeros((8, 8, 3), np.uint8)
        return int(self.encode([probe]).shape[1])


def load(argument: str) -> Encoder:
    """``<id or folder>`` with optional ``#text`` or ``#image``. Raises EncoderUnavailable, ValueError."""
    name, _, tower = argument.partition("#")
    if tower not in ("", "text", "image"):
        raise ValueError(f"'#{tower}' is neither '#text' nor '#image'")
    return HuggingFaceEncoder(name, tower or None)  # type: ignore[arg-type]


def _load_model(folder: Path) -> tuple[Any, set[str]]:
    """The model, and the names of pooler weights that its checkpoint lacks. Any other lack is refused."""
    from transformers import AutoModel

    try:
        model, report = AutoModel.from_pretrained(
            str(folder),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:
        # Damaged or foreign files raise whatever the reader of that part raises.
        raise EncoderUnavailable(f"the model in {folder} cannot be loaded: {str(error)[:300]}") from error
    missing = set(report["missing_keys"])
    if lacking := sorted(name for name in missing if "pooler" not in name):
        raise EncoderUnavailable(f"the weights in {folder} lack {len(lacking)} tensors, such as {lacking[0]}")
    return model, missing


def _load_processor(folder: Path, modality: Modality) -> Any:
    from transformers import AutoImageProcessor, AutoTokenizer

    kind = AutoTokenizer if modality == "text" else AutoImageProcessor
    try:
        return kind.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        what = "tokenizer" if modality == "text" else "image processor"
        raise EncoderUnavailable(f"{folder} has no usable {what}: {str(error)[:300]}") from error


def _guess_modality(model: Any) -> Modality:
    """By the name of the model's main input, which every transformers model declares."""
    if hasattr(model, "get_image_features"):
        return "image"
    return "image" if model.main_input_name == "pixel_values" else "text"


def _tensor(output: Any, *, pooler: bool = True) -> Any:
    """The pooled [n, d] of what a model gives: a tensor, a pooled output, or tokens (then the first)."""
    if hasattr(output, "flatten"):
        return output
    pooled = getattr(output, "pooler_output", None) if pooler else None
    return pooled.flatten(1) if pooled is not None else output.last_hidden_state[:, 0]


def _mean_pooled(hidden: Any, mask: Any) -> Any:
    kept = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
