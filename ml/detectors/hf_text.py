"""Any Hugging Face text classifier: ``hf-text:<folder or hub id>#toxic=abuse,identity_hate=hate``.

Behind ``#`` stands which label of the model means which category; without it labels count that are themselves names of
categories. The model says how its scores add up: ``multi_label_classification`` gives each label its own sigmoid,
anything else one softmax. Nothing is fetched here: the model's files have to be on the machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ml.detectors._text import Piece, split_passages, text_pieces, truncation_evidence
from ml.detectors.base import Category, Detector, Finding, Item

KNOWN = (
    "abuse", "hate", "insult", "threat", "profanity", "personal_data", "self_harm", "sexual", "violence", "spam",
    "nudity",
)  # fmt: skip
#: Characters read at once (a model cuts what is more than its tokens), passages read of one item.
PASSAGE_CHARS, MAX_PASSAGES, BATCH = 1_000, 64, 8
MAX_EVIDENCE = 10


class HfText(Detector):
    tier = "statistical"
    version = "1"
    modalities: ClassVar = frozenset({"text", "image", "audio", "video"})
    sees = "What its model was trained on, in the model's languages."
    blind_to = (
        "Whatever its model card says; its scores are not calibrated unless they were fitted on your content."
    )
    timeout_s = 60.0
    order = 60

    def __init__(self, argument: str) -> None:
        self.model, _, given = argument.partition("#")
        if not self.model:
            raise ValueError("hf-text needs a model: hf-text:/path/to/folder#label=category")
        self.name = f"hf-text:{argument}"
        self._by_label = _mapping(given) if given else {name: name for name in KNOWN}
        self.categories = tuple(dict.fromkeys(self._by_label.values())) if given else ()  # type: ignore[misc]
        if not given:
            known = [label for label in _labels(self.model) if label.lower() in KNOWN]
            self.categories = tuple(label.lower() for label in known)  # type: ignore[misc]

    def missing(self) -> str:
        absent = [package for package in ("torch", "transformers") if find_spec(package) is None]
        if absent:
            return f"{' and '.join(absent)} not installed: pip install {' '.join(absent)}"
        if _config_file(self.model) is None:
            return (
                f"There is no model at {self.model!r} on this machine: give a folder, or put it into HF_HOME."
            )
        return ""

    def examine(self, item: Item) -> Finding:
        read = list(text_pieces(item))
        if not read:
            return Finding("not_applicable", "There are no words in it.")
        labels = self._classifier.labels
        mapping = {
            at: self._by_label[name.lower()]
            for at, name in enumerate(labels)
            if name.lower() in self._by_label
        }
        if set(mapping.values()) != set(self.categories) or not mapping:
            problem = f"the labels of {self.model!r} are {', '.join(labels)}: name them behind '#', as in #toxic=abuse"
            raise ValueError(problem)
        parts = [(piece, span) for piece in read for span in split_passages(piece.words.text, PASSAGE_CHARS)]
        scores = self._classifier.scores(
            [piece.words.text[slice(*span)] for piece, span in parts[:MAX_PASSAGES]]
        )
        notes: list[Mapping[str, Any]] = [note for note in [truncation_evidence(item)] if note]
        if len(parts) > MAX_PASSAGES:
            notes.append({"kind": "cut", "passages": len(parts), "read": MAX_PASSAGES})
        names = dict.fromkeys(mapping.values())
        return Finding(
            categories={name: self._category(name, mapping, scores, parts) for name in names},
            evidence=[{"kind": "model", "name": self.model, "version": self._classifier.version}, *notes],
        )

    def _category(
        self,
        name: str,
        mapping: Mapping[int, str],
        scores: NDArray[np.float32],
        parts: list[tuple[Piece, tuple[int, int]]],
    ) -> Category:
        """The highest of its labels in the worst passage. Of a softmax, labels of one category add up."""
        columns = [at for at, category in mapping.items() if category == name]
        each = (
            scores[:, columns].max(axis=1) if self._classifier.multi_label else scores[:, columns].sum(axis=1)
        )
        worst = np.argsort(-each, kind="stable")[:MAX_EVIDENCE]
        evidence = []
        for at in worst:
            piece, span = parts[at]
            label = self._classifier.labels[columns[int(scores[at, columns].argmax())]]
            evidence.append(
                {"kind": "passage", **piece.span(*span), "score": round(float(each[at]), 4), "label": label}
            )
        shown = max(1, int((each >= 0.5).sum()))
        return Category(round(float(each[worst[0]]), 4), evidence=evidence[:shown])

    @cached_property
    def _classifier(self) -> _Classifier:
        return _Classifier(self.model)


class _Classifier:
    """A sequence classifier in safetensors on one processor; never runs code from its folder."""

    def __init__(self, name: str) -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from ml.encoders._hub import model_folder, weight_files
        from ml.encoders._torch import weights_version
        from ml.encoders.base import EncoderUnavailable

        folder = model_folder(name)
        self.version = weights_version(weight_files(folder))
        safe = {"trust_remote_code": False, "local_files_only": True}
        try:
            self._model, report = AutoModelForSequenceClassification.from_pretrained(
                str(folder), use_safetensors=True, output_loading_info=True, **safe
            )
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), **safe)
        except Exception as error:
            # Damaged or foreign files raise whatever the reader of that part raises.
            raise EncoderUnavailable(f"the model in {folder} cannot be loaded: {str(error)[:300]}") from error
        if report["missing_keys"]:
            # A fresh head would give random scores that look like answers.
            first = min(report["missing_keys"])
            raise EncoderUnavailable(
                f"{folder} holds no trained classifier: {first} is missing from its weights"
            )
        self._model.eval()
        config = self._model.config
        self.labels = [str(config.id2label[at]) for at in range(config.num_labels)]
        self.multi_label = config.problem_type == "multi_label_classification" or config.num_labels == 1

    def scores(self, texts: list[str]) -> NDArray[np.float32]:
        """float32 [n, labels], each 0 to 1."""
        import torch

        found = []
        with torch.inference_mode():
            for start in range(0, len(texts), BATCH):
                feed = self._tokenizer(
                    texts[start : start + BATCH],
                    padding=True,
                    truncation=True,
                    max_length=self._max_tokens(),
                    return_tensors="pt",
                )
                logits = self._model(**feed).logits.float()
                found.append(logits.sigmoid() if self.multi_label else logits.softmax(-1))
        scores = torch.cat(found).numpy()
        if not np.isfinite(scores).all():
            raise ValueError("the model's scores are no numbers: its weights are damaged")
        return np.asarray(scores, np.float32)

    def _max_tokens(self) -> int:
        config = self._model.config
        positions = getattr(config, "max_position_embeddings", 512)
        # RoBERTa counts positions from behind the padding token's number.
        taken = config.pad_token_id + 1 if "roberta" in config.model_type else 0
        return int(min(self._tokenizer.model_max_length, positions - taken, 512))


def load(argument: str) -> Detector:
    """Raises ValueError without a model's name, and for a mapping to what is no category."""
    return HfText(argument)


def _mapping(given: str) -> dict[str, str]:
    """Labels, lower case, to categories. Raises ValueError."""
    found = {}
    for pair in given.split(","):
        label, _, category = (part.strip() for part in pair.partition("="))
        if category not in KNOWN or not label:
            raise ValueError(f"{pair!r} is not LABEL=CATEGORY with one of {', '.join(KNOWN)}")
        found[label.lower()] = category
    return found


def _config_file(model: str) -> Path | None:
    """The model's configuration on this machine: in its folder or in the hub's cache."""
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder / "config.json" if (folder / "config.json").is_file() else None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model, "config.json")
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _labels(model: str) -> list[str]:
    """What its configuration names; empty where there is none."""
    path = _config_file(model)
    try:
        labels = json.loads(path.read_bytes())["id2label"] if path else {}
        return [str(label) for label in labels.values()]
    except (ValueError, KeyError, AttributeError, OSError):
        return []
