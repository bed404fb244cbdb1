"""The child of `hub.py`: adds a CLIP ViT-B/32 and says what that took, as JSON: `_hub_size.py PRECISION`.

The weights are random and the tokenizer is made here, at true size and architecture: speed and memory do not depend on
what weights say. A process of its own, so that its memory is that of adding. At toy size, one layer of a few numbers.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _report import sized

WORDS = sized(49408, 900)
SIDE = sized(224, 32)
TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
TOWERS: dict[str, Any] = sized(
    {},
    {
        "text_config": {**TINY, "vocab_size": WORDS, "bos_token_id": WORDS - 2, "eos_token_id": WORDS - 1},
        "vision_config": {**TINY, "image_size": SIDE, "patch_size": 16},
        "projection_dim": 12,
    },
)


def write_model(folder: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    transformers.CLIPModel(transformers.CLIPConfig(**TOWERS)).save_pretrained(folder)
    side = {"height": SIDE, "width": SIDE}
    transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=side).save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(), pad_token="<|end|>", unk_token="a", model_max_length=77
    ).save_pretrained(folder)  # fmt: skip


def tokenizer() -> Any:
    """Pieces of one to three letters, so that texts have about as many tokens as they would have."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(a + b for a in letters for b in letters), *(f"w{n}" for n in range(WORDS))]
    vocabulary = {piece: at for at, piece in enumerate([*pieces[: WORDS - 2], "<|start|>", "<|end|>"])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="a", continuing_subword_prefix=""))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="<|start|> $A <|end|>", special_tokens=[("<|start|>", WORDS - 2), ("<|end|>", WORDS - 1)]
    )
    return made


def added(precision: str) -> dict[str, Any]:
    """`seconds`, `peak_mb` of memory, `weights_mb` of the original, `disk_mb` of what is kept; by tower its `mb`, `ms`
    one at a time, and the least cosine to the original."""
    from ml.hub import Wanted, add_space

    with tempfile.TemporaryDirectory() as scratch:
        os.environ["CROSSLIGHT_MODELS"] = f"{scratch}/models"
        folder = Path(scratch) / "random-clip"
        write_model(folder)
        start = time.monotonic()
        made = add_space(Wanted(f"hf:{folder}", precision=precision), print)
        return {
            "seconds": time.monotonic() - start,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "weights_mb": (folder / "model.safetensors").stat().st_size / 1e6,
            "disk_mb": sum(path.stat().st_size for path in made.folder.rglob("*") if path.is_file()) / 1e6,
            "towers": {
                name: {"mb": one["bytes"] / 1e6, "ms": one["ms"], "least_cosine": one["parity"]["least"]}
                for name, one in made.manifest["towers"].items()
            },
        }


if __name__ == "__main__":
    print(json.dumps(added(sys.argv[1])))
