"""Any Hugging Face model in safetensors as an encoder: ``hf:<id or folder>``, with ``#text``, ``#image`` or ``#audio``.

CLIP (Radford et al. 2021, arXiv:2103.00020), SigLIP (Zhai et al. 2023, arXiv:2303.15343) and, for sounds, CLAP
(Wu et al. 2023, arXiv:2211.06687) have two towers; ``#`` picks one, without it the one that is not text. Other
text models give the mean over tokens, other image models their pooled output (Sentence-BERT, arXiv:1908.10084;
ViT, arXiv:2010.11929; ResNet, arXiv:1512.03385).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

from ml.encoders._hub import model_folder, weight_files
from ml.encoders._torch import as_images, in_batches, pick_device, unit, weights_version
from ml.encoders.base import Encoder, EncoderUnavailable, Modality, Samples, Vectors, as_sound, as_text

SAMPLE_RATE = 16_000
MAX_TOKENS = 512
#: What reads each modality's input, in transformers and in words.
PROCESSORS = {
    "text": ("AutoTokenizer", "tokenizer"),
    "image": ("AutoImageProcessor", "image processor"),
    "audio": ("AutoFeatureExtractor", "feature extractor"),
}
PROBES: dict[str, Any] = {
    "text": "a",
    "image": np.zeros((8, 8, 3), np.uint8),
    "audio": np.zeros(1600, np.float32),
}


class HuggingFaceEncoder(Encoder):
    """A model loaded with AutoModel; rows of norm 1. Never runs code from the repository it loads."""

    def __init__(self, name: str, modality: Modality | None) -> None:
        folder = model_folder(name)
        weights = weight_files(folder)
        self._model, missing = _load_model(folder)
        # A checkpoint of another task has no pooler: the fresh one that transformers adds is noise.
        self._pooler = not missing
        self.modality = modality or _towers(self._model)[0]
        self.id = f"hf:{name}#{self.modality}"
        self.version = weights_version(weights)
        self.device = pick_device()
        self._model.eval().to(self.device)
        self._two_towers = hasattr(self._model, "get_text_features")
        self._check_tower()
        self._prepare = _load_processor(folder, self.modality)
        self.dimension = self._measure_dimension()

    def encode(self, batch: Sequence[Any]) -> Vectors:
        """Strings, uint8 pictures [h, w, 3] or 16 kHz sounds to float32 [n, dimension], rows of norm 1."""
        runs = {"text": self._encode_texts, "image": self._encode_pictures, "audio": self._encode_sounds}
        return in_batches(runs[self.modality], batch, self.dimension)

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

    def _encode_sounds(self, batch: Sequence[Any]) -> Any:
        import torch

        return torch.stack([self._encode_sound(as_sound(sound)) for sound in batch])

    def _encode_sound(self, samples: Samples) -> Any:
        """The mean over the model's windows (ten seconds): cut by us, its own extractor picks one at random."""
        rate, window = self._prepare.sampling_rate, self._prepare.max_length_s * SAMPLE_RATE
        parts = [samples[at : at + window] for at in range(0, len(samples), window)]
        vectors = []
        for part in parts:
            feed = self._prepare(_resampled(part, rate), sampling_rate=rate, return_tensors="pt")
            # The extractor calls one sound of a batch longer than it is, at random.
            feed["is_longer"][:] = False
            vectors.append(unit(_tensor(self._model.get_audio_features(**feed.to(self.device)))))
        return unit(sum(vectors)[0])

    def _max_tokens(self) -> int:
        config = getattr(self._model.config, "text_config", self._model.config)
        positions = getattr(config, "max_position_embeddings", MAX_TOKENS)
        # RoBERTa and CLAP's copy of it count positions from behind the padding token's number.
        taken = config.pad_token_id + 1 if config.model_type in ("roberta", "clap_text_model") else 0
        return int(min(self._prepare.model_max_length, positions - taken))

    def _check_tower(self) -> None:
        towers = _towers(self._model)
        if self.modality not in towers:
            raise EncoderUnavailable(
                f"{self.id}: the model has no {self.modality} tower, only {' and '.join(towers)}"
            )

    def _measure_dimension(self) -> int:
        self.dimension = 0
        return int(self.encode([PROBES[self.modality]]).shape[1])


def load(argument: str) -> Encoder:
    """``<id or folder>`` with optional ``#text``, ``#image`` or ``#audio``. Raises EncoderUnavailable, ValueError."""
    name, _, tower = argument.partition("#")
    if tower not in ("", *get_args(Modality)):
        raise ValueError(f"'#{tower}' is none of {', '.join(f'#{each}' for each in get_args(Modality))}")
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
    import transformers

    kind, what = PROCESSORS[modality]
    try:
        return getattr(transformers, kind).from_pretrained(
            str(folder), trust_remote_code=False, local_files_only=True
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise EncoderUnavailable(f"{folder} has no usable {what}: {str(error)[:300]}") from error


def _towers(model: Any) -> tuple[Modality, ...]:
    """What the model encodes, text last: by its methods, or by the name of the main input that it declares."""
    found: tuple[Modality, ...] = tuple(
        modality
        for modality in get_args(Modality)
        if modality != "text" and hasattr(model, f"get_{modality}_features")
    )
    if found:
        return (*found, "text")
    return ("image",) if model.main_input_name == "pixel_values" else ("text",)


def _resampled(samples: Samples, rate: int) -> Samples:
    """16 kHz to ``rate`` by zero-padding the spectrum: there is nothing above 8 kHz, and nothing is made up."""
    length = len(samples) * rate // SAMPLE_RATE
    return np.fft.irfft(np.fft.rfft(samples) * (rate / SAMPLE_RATE), length).astype(np.float32)


def _tensor(output: Any, *, pooler: bool = True) -> Any:
    """The pooled [n, d] of what a model gives: a tensor, a pooled output, or tokens (then the first)."""
    if hasattr(output, "flatten"):
        return output
    pooled = getattr(output, "pooler_output", None) if pooler else None
    return pooled.flatten(1) if pooled is not None else output.last_hidden_state[:, 0]


def _mean_pooled(hidden: Any, mask: Any) -> Any:
    kept = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
