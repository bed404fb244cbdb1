"""Speed and memory of a CLIP ViT-B/32 that `manage.py add_space` adds: `.venv/bin/python benchmarks/_hub_size.py`.

The weights are random and the tokenizer is made here, at true size and architecture: speed and memory do not depend on
what weights say. `int8`, `fp16` or `fp32` as an argument. Takes minutes and some gigabytes of memory.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
import time
from pathlib import Path

END, WORDS = 49407, 49408


def write_model(folder: Path) -> None:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    torch.manual_seed(0)
    transformers.CLIPModel(transformers.CLIPConfig()).save_pretrained(folder)
    side = {"height": 224, "width": 224}
    transformers.CLIPImageProcessor(size={"shortest_edge": 224}, crop_size=side).save_pretrained(folder)
    # Pieces of one to three letters, so that texts have about as many tokens as they would have.
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = [*letters, *(a + b for a in letters for b in letters), *(f"w{n}" for n in range(WORDS))][
        : WORDS - 2
    ]
    vocabulary = {piece: at for at, piece in enumerate([*pieces, "<|start|>", "<|end|>"])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="a", continuing_subword_prefix=""))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|start|> $A <|end|>", special_tokens=[("<|start|>", END - 1), ("<|end|>", END)]
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|end|>", unk_token="a", model_max_length=77
    ).save_pretrained(folder)  # fmt: skip


def main() -> None:
    from ml.hub import Wanted, add_space

    precision = sys.argv[1] if len(sys.argv) > 1 else "int8"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["CROSSLIGHT_MODELS"] = f"{folder}/models"
        write_model(Path(folder) / "random-vit-b32")
        start = time.monotonic()
        added = add_space(Wanted(f"hf:{folder}/random-vit-b32", precision=precision), print)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"added in {time.monotonic() - start:.0f} s, {peak:,.0f} MB of memory at the peak")
        kept = sum(path.stat().st_size for path in added.folder.rglob("*") if path.is_file())
        print(f"{kept / 1e6:,.0f} MB on disk")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    main()
