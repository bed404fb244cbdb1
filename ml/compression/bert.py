"""A BERT-like text tower (Devlin et al. 2019, arXiv:1810.04805) as an ONNX graph that computes no padding.

The tokens of a batch lie in one row after the other; only attention sees them as a rectangle (as in ByteTransformer,
Zhai et al. 2023, arXiv:2210.03052). A batch of captions is a third padding, one of questions half.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.compression.graph import MICROSOFT, Graph

Array = NDArray[Any]

#: GELU's minimum is -0.16997.
LEAST_GELU = -0.171

INPUTS = ("tokens", "positions", "slots", "places", "mask")


def feed(lists: Sequence[Sequence[int]]) -> dict[str, Array]:
    """What the graph takes for n token lists, t tokens in all, the longest of length m.

    ``tokens`` and ``positions`` [t]; ``slots`` [n, m], the number of the token in each cell (0 where there is none);
    ``mask`` [n, m], 1 where there is one; ``places`` [t], each token's cell.
    """
    lengths = np.array([len(one) for one in lists])
    mask = np.arange(lengths.max()) < lengths[:, None]
    places = np.flatnonzero(mask)
    slots = np.zeros(mask.shape, np.int64)
    slots.ravel()[places] = np.arange(len(places))
    return {
        "tokens": np.concatenate([np.asarray(one, np.int64) for one in lists]),
        "positions": np.nonzero(mask)[1],
        "slots": slots,
        "places": places,
        "mask": mask.astype(np.int32),
    }


def can_write(body: Any) -> bool:
    """Whether ``body`` is of the kind that ``write_bert`` writes."""
    config = body.config
    plain = getattr(config, "position_embedding_type", "absolute") == "absolute"
    return (
        config.model_type == "bert"
        and plain
        and config.hidden_act in ("gelu", "gelu_new", "gelu_pytorch_tanh")
    )


def write_bert(body: Any, target: Path, *, int8: bool) -> None:
    """Write a ``transformers`` BertModel as a graph from ``feed`` to ``vectors`` [n, d]: mean of tokens, norm 1."""
    import onnx

    onnx.save(_Writer(body, int8).model(), str(target))


class _Writer:
    def __init__(self, body: Any, int8: bool) -> None:
        self.config, self.graph, self.int8 = body.config, Graph(flat="places"), int8
        self.weights = {name: value.detach().float().numpy() for name, value in body.state_dict().items()}
        # The tanh form takes a third less time; its error (.0005) is far below that of INT8.
        self._gelu = "BiasGelu" if self.config.hidden_act == "gelu" and not int8 else "FastGelu"
        self._indices()

    def model(self) -> Any:
        from onnx import TensorProto, helper

        shapes = (("t",), ("t",), ("n", "m"), ("t",), ("n", "m"))
        kinds = [TensorProto.INT64] * 4 + [TensorProto.INT32]
        inputs = [helper.make_tensor_value_info(*one) for one in zip(INPUTS, kinds, shapes, strict=True)]
        rows = self._embedded()
        for number in range(self.config.num_hidden_layers):
            rows = self._layer(f"encoder.layer.{number}.", rows)
        self._pooled(rows)
        output = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ("n", self.config.hidden_size))
        return self.graph.model(inputs, output)

    def _embedded(self) -> str:
        add, tables = self.graph.add, self.weights
        words = self.graph.table(tables["embeddings.word_embeddings.weight"], "tokens", int8=self.int8)
        # The one segment there is, added to the positions once for all.
        places = (
            tables["embeddings.position_embeddings.weight"]
            + tables["embeddings.token_type_embeddings.weight"][0]
        )
        return self._normed(
            "embeddings.LayerNorm.", add("Add", words, self.graph.table(places, "positions", int8=False))
        )

    def _layer(self, name: str, rows: str) -> str:
        seen = self._attention(name + "attention.self.", name + "attention.output.dense.", rows)
        rows = self._normed(name + "attention.output.LayerNorm.", self.graph.add("Add", seen, rows))
        # The activation takes its bias itself: one pass over the widest rows less.
        inner = self._linear(name + "intermediate.dense.", rows, bias=None)
        bias = self.graph.constant(self.weights[name + "intermediate.dense.bias"])
        inner = self.graph.add(self._gelu, inner, bias, domain=MICROSOFT)
        weights, bias = (self.weights[f"{name}output.dense.{part}"] for part in ("weight", "bias"))
        outer = self.graph.product(inner, weights.T, bias, int8=self.int8, least=LEAST_GELU)
        return self._normed(name + "output.LayerNorm.", self.graph.add("Add", outer, rows))

    def _attention(self, name: str, out: str, rows: str) -> str:
        """Softmax attention within each text. Heads are gathered straight into [n, heads, m, d]: no transposing.

        The keys' bias moves all scores of a query alike, which the softmax does not see; the values' bias passes
        through it unchanged, so it goes into the bias behind.
        """
        add, heads = self.graph.add, self.config.num_attention_heads
        width = len(self.weights[name + "value.bias"])
        lines = self.graph.constant(np.array([-1, width // heads]))
        parts = [
            self._linear(name + "query.", rows, self.weights[name + "query.bias"]),
            self._linear(name + "key.", rows, bias=None),
            self._linear(name + "value.", rows, bias=None),
        ]
        query, key, value = (add("Gather", add("Reshape", part, lines), self._cells) for part in parts)
        scale = float(width // heads) ** -0.5
        scores = add("FusedMatMul", query, key, domain=MICROSOFT, transB=1, alpha=scale)
        seen = add("MatMul", add("Softmax", add("Add", scores, self._blind), axis=-1), value)
        found = add("Gather", add("Reshape", seen, lines), self._back)
        found = add("Reshape", found, self.graph.constant(np.array([-1, width])))
        moved = self.weights[out + "weight"] @ self.weights[name + "value.bias"]
        return self._linear(out, found, self.weights[out + "bias"] + moved)

    def _indices(self) -> None:
        """Where heads are: ``_cells`` [n, heads, m] in rows of tokens, ``_back`` [t, heads] in rows of cells; and
        ``_blind`` [n, 1, 1, m], what makes the softmax skip empty cells."""
        add, constant = self.graph.add, self.graph.constant
        heads = np.arange(self.config.num_attention_heads)
        count = constant(np.array(len(heads)))
        first = add("Mul", add("Unsqueeze", "slots", constant(np.array([1]))), count)
        self._cells = add("Add", first, constant(heads[None, :, None]))
        length = add("Gather", add("Shape", "slots"), constant(np.array([1])))
        text, position = add("Div", "places", length), add("Mod", "places", length)
        row = add("Add", add("Mul", add("Mul", text, count), length), position)
        step = add("Mul", constant(heads[None, :]), length)
        self._back = add("Add", add("Unsqueeze", row, constant(np.array([1]))), step)
        seen = add("Unsqueeze", add("Cast", "mask", to=1), constant(np.array([1, 2])))
        self._blind = add("Mul", add("Sub", seen, constant(1.0)), constant(1e9))

    def _linear(self, name: str, rows: str, bias: Array | None) -> str:
        return self.graph.product(rows, self.weights[name + "weight"].T, bias, int8=self.int8)

    def _normed(self, name: str, rows: str) -> str:
        scale, shift = (self.graph.constant(self.weights[name + part]) for part in ("weight", "bias"))
        return self.graph.add(
            "LayerNormalization", rows, scale, shift, axis=-1, epsilon=float(self.config.layer_norm_eps)
        )

    def _pooled(self, rows: str) -> None:
        """Zero the empty cells, add up, and divide by the length: the mean over tokens, up to its norm."""
        add, constant = self.graph.add, self.graph.constant
        weights = add("Unsqueeze", add("Cast", "mask", to=1), constant(np.array([2])))
        summed = add(
            "ReduceSum",
            add("Mul", add("Gather", rows, "slots"), weights),
            constant(np.array([1])),
            keepdims=0,
        )
        norm = add("ReduceL2", summed, constant(np.array([-1])), keepdims=1)
        add("Div", summed, add("Max", norm, constant(1e-12)), output="vectors")
