"""Make a BERT-like text tower smaller before it is distilled: fewer layers, fewer inner units, fewer word pieces.

Layers as in DistilBERT (Sanh et al. 2019, arXiv:1910.01108) and "Poor Man's BERT" (Sajjad et al. 2020,
arXiv:2004.03844); inner units by structured magnitude pruning over the graph of dependencies (torch-pruning, Fang et
al. 2023, arXiv:2301.12900); word pieces because half of a small model's weights are its vocabulary.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

#: Pieces that every vocabulary keeps, whatever the texts say.
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def keep_layers(body: Any, layers: Sequence[int]) -> None:
    """Leave only these layers, in this order. Raises ValueError for layers that there are not."""
    import torch

    present = body.encoder.layer
    if not layers or any(not 0 <= number < len(present) for number in layers):
        raise ValueError(f"layers {list(layers)} are not among the {len(present)} that the model has")
    body.encoder.layer = torch.nn.ModuleList(present[number] for number in layers)
    body.config.num_hidden_layers = len(layers)


def prune_feed_forward(body: Any, share: float) -> None:
    """Keep the ``share`` (0..1) of each layer's inner units whose weights are largest. Raises ValueError."""
    import torch_pruning

    if not 0 < share <= 1:
        raise ValueError(f"the share of inner units to keep is above 0 and at most 1, not {share}")
    count = max(1, round(share * body.config.intermediate_size))
    for layer in body.encoder.layer:
        inner, outer = layer.intermediate.dense, layer.output.dense
        strength = inner.weight.norm(dim=1) * outer.weight.norm(dim=0)
        weakest = strength.argsort()[: len(strength) - count].tolist()
        torch_pruning.prune_linear_out_channels(inner, weakest)
        torch_pruning.prune_linear_in_channels(outer, weakest)
    body.config.intermediate_size = count


def count_pieces(tokenizer: Any, texts: Iterable[str]) -> Counter[str]:
    """How often each word piece occurs in ``texts``."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenizer.encode(text, add_special_tokens=False).tokens)
    return counts


def prune_vocabulary(body: Any, tokenizer: Any, counts: Counter[str], size: int) -> Any:
    """Keep ``size`` word pieces: all single characters, then what occurs, then the most common ones of the old list.

    A word whose piece is gone falls apart into shorter pieces that are left. The embeddings of ``body`` are cut
    accordingly; the new ``tokenizers.Tokenizer`` comes back. Raises ValueError where the tokenizer is no WordPiece.
    """
    import torch
    from tokenizers import Tokenizer

    content = json.loads(tokenizer.to_str())
    if content["model"]["type"] != "WordPiece":
        raise ValueError(f"only a WordPiece vocabulary can be pruned, not {content['model']['type']}")
    old: dict[str, int] = content["model"]["vocab"]
    kept = _kept(old, counts, size)
    rows = torch.tensor([old[piece] for piece in kept])
    new = {piece: number for number, piece in enumerate(kept)}
    _renumber(content, new)
    words = body.embeddings.word_embeddings
    smaller = torch.nn.Embedding(len(kept), words.embedding_dim, padding_idx=new.get("[PAD]"))
    smaller.weight.data = words.weight.data[rows].clone()
    body.embeddings.word_embeddings = smaller
    body.config.vocab_size, body.config.pad_token_id = len(kept), new.get("[PAD]", 0)
    return Tokenizer.from_str(json.dumps(content))


def _kept(old: dict[str, int], counts: Counter[str], size: int) -> list[str]:
    """In the order of the old list, which is about that of frequency in English."""
    must = {piece for piece in old if piece in SPECIAL or len(piece.removeprefix("##")) == 1}
    ordered = sorted(old, key=lambda piece: (piece not in must, -counts[piece], old[piece]))
    return sorted(ordered[: max(size, len(must))], key=old.__getitem__)


def _renumber(content: dict[str, Any], new: dict[str, int]) -> None:
    """Write the new numbers wherever a tokenizer's JSON has old ones."""
    content["model"]["vocab"] = new
    content["added_tokens"] = [
        token | {"id": new[token["content"]]} for token in content["added_tokens"] if token["content"] in new
    ]
    processor = content.get("post_processor") or {}
    for name, token in processor.get("special_tokens", {}).items():
        token["ids"] = [new[name]]
    for side in ("sep", "cls"):
        if side in processor:
            processor[side] = [processor[side][0], new[processor[side][0]]]
    content["padding"] = None
