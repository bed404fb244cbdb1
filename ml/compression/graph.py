"""A few lines to write ONNX graphs by hand, and INT8 products that scale each row by itself.

Dynamic INT8 as onnxruntime's quantiser makes it takes one scale from the whole batch: a text's vector then depends on
its neighbours, and one large token costs all others their precision. Here each row (a token) is divided by its own
largest value and rounded to a fixed grid, so rows are independent and nothing has to be calibrated (the scheme of
LLM.int8, Dettmers et al. 2022, arXiv:2208.07339, without its outliers). Weights have one scale a column, and lie around
128 as the rows do: x86-64 without VNNI adds pairs of products with signed weights in 16 bits, which saturate, and adds
those without signs in 32. So every processor gives the same sums.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"
OPSETS = {"": 20, MICROSOFT: 1}
IR_VERSION = 9
#: Since this opset ReduceMax takes its axes as an input.
AXES_AS_INPUT = 18

#: Products with fewer weights than this stay float: quantising their input would cost more than it saves.
LEAST_WEIGHTS = 64 * 64
#: What stands for nothing in rows and weights.
MIDDLE = 128
#: The share of a channel's range that moves from rows to weights where ranges are known (``calibrate``).
SMOOTHING = 0.5
#: A channel's range is taken for at least this share of the widest one's: what the calibration saw of it may be less
#: than what will come.
NARROWEST = 1e-4

Array = NDArray[Any]
#: The largest magnitude of each channel [k] in front of a product, by the name of the value.
Maxima = dict[str, NDArray[np.float32]]


class Graph:
    """Collects nodes and constants; ``model()`` gives the ONNX model.

    ``prefix`` keeps names apart from others. ``flat`` names a value [t, …] of as many rows as every product has: where
    products see plain matrices, the rounding itself takes a scale a row, which saves a pass.
    """

    def __init__(self, prefix: str = "", flat: str = "") -> None:
        self.prefix, self.flat = prefix, flat
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._known: dict[tuple[str, bytes], str] = {}
        self._rounded: dict[str, tuple[str, str]] = {}
        self._smoothed: dict[str, str] = {}

    def add(self, operator: str, *inputs: str, domain: str = "", output: str = "", **attributes: Any) -> str:
        """One node; the name of its only output comes back. An empty input name is one that is left out."""
        from onnx import helper

        name = output or f"{self.prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(operator, list(inputs), [name], domain=domain, name=f"n_{name}", **attributes)
        )
        return name

    def constant(self, values: Array | float) -> str:
        """A constant, kept once however often it is asked for; plain numbers are float32."""
        from onnx import numpy_helper

        array = np.ascontiguousarray(np.float32(values) if isinstance(values, float) else values)
        key = (f"{array.dtype}{array.shape}", array.tobytes())
        if key not in self._known:
            self._known[key] = f"{self.prefix}c_{len(self.constants)}"
            self.constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def product(
        self,
        rows: str,
        weights: Array,
        bias: Array | None = None,
        *,
        int8: bool = True,
        least: float | None = None,
        divisors: Array | None = None,
    ) -> str:
        """``rows @ weights + bias``, weights [k, m] float32, in INT8 with a scale a row and a column, or float32.

        ``least``: no element of ``rows`` is below it, a small negative number; then their magnitude is their maximum.
        ``divisors`` [k]: what channels are divided by before they are rounded, the same for all products of ``rows``.
        """
        if divisors is not None:
            rows, weights = self._smooth(rows, divisors), weights * divisors[:, None]
        if int8 and weights.size >= LEAST_WEIGHTS:
            result = self._int8_product(rows, weights, least)
        else:
            result = self.add("MatMul", rows, self.constant(weights))
        return result if bias is None else self.add("Add", result, self.constant(bias))

    def table(self, rows: Array, index: str, *, int8: bool = True) -> str:
        """Rows [v, d] looked up by ``index``: int8 with a scale a row, or float32."""
        if not int8:
            return self.add("Gather", self.constant(rows), index)
        whole, scales = rounded(rows.T)
        found = self.add("Cast", self.add("Gather", self.constant(whole.T), index), to=1)
        return self.add("Mul", found, self.add("Gather", self.constant(scales[:, None]), index))

    def _smooth(self, rows: str, divisors: Array) -> str:
        if rows not in self._smoothed:
            self._smoothed[rows] = self.add("Mul", rows, self.constant((1 / divisors).astype(np.float32)))
        return self._smoothed[rows]

    def _int8_product(self, rows: str, weights: Array, least: float | None) -> str:
        whole, scales = rounded(weights)
        levels, steps = self._rounded_rows(rows, least)
        result = self.add(
            "MatMulIntegerToFloat", levels, self.constant((whole.astype(np.int16) + MIDDLE).astype(np.uint8)),
            self.constant(1.0), self.constant(scales), self.constant(np.array(MIDDLE, np.uint8)),
            self.constant(np.full(len(scales), MIDDLE, np.uint8)), domain=MICROSOFT,
        )  # fmt: skip
        return self.add("Mul", result, steps)

    def _rounded_rows(self, rows: str, least: float | None) -> tuple[str, str]:
        """Each row as uint8 around 128, and its step: a 127th of its largest magnitude. Once for each input."""
        if rows not in self._rounded:
            axis = self.constant(np.array([-1]))
            magnitudes = self.add("Abs", rows) if least is None else rows
            peak = self.add("ReduceMax", magnitudes, axis, keepdims=1)
            largest = self.add("Max", peak, self.constant(1e-9 if least is None else -least))
            steps = self.add("Mul", largest, self.constant(1 / 127))
            self._rounded[rows] = self._levels(rows, steps), steps
        return self._rounded[rows]

    def _levels(self, rows: str, steps: str) -> str:
        if not self.flat:
            shares = self.add("Div", rows, steps)
            return self.add(
                "QuantizeLinear", shares, self.constant(1.0), self.constant(np.array(MIDDLE, np.uint8))
            )
        zeros = self._rounded.get("zeros")
        if zeros is None:
            from onnx import numpy_helper

            middle = numpy_helper.from_array(np.array([MIDDLE], np.uint8))
            zeros = self._rounded["zeros"] = (
                self.add("ConstantOfShape", self.add("Shape", self.flat), value=middle),
                "",
            )
        each = self.add("Squeeze", steps, self.constant(np.array([-1])))
        return self.add("QuantizeLinear", rows, each, zeros[0], axis=0)

    def model(self, inputs: Sequence[Any], output: Any) -> Any:
        """The model with these typed inputs and output (``onnx.helper.make_tensor_value_info``), checked."""
        import onnx
        from onnx import helper

        graph = helper.make_graph(self.nodes, "encoder", list(inputs), [output], self.constants)
        opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        onnx.checker.check_model(made)
        return made


def rounded(weights: Array) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Weights [k, m] as int8 with one scale a column [m]: ``weights ≈ whole * scales``."""
    scales = np.maximum(np.abs(weights).max(axis=0), 1e-9) / 127
    return np.round(weights / scales).astype(np.int8), scales.astype(np.float32)


def quantise_rows(source: Path, target: Path) -> int:
    """Replace the products with constant weights in an exported graph by INT8 ones; how many comes back.

    For any transformer (text or vision). ``source`` should have its constants folded (``quantise.preprocess``).
    """
    import onnx

    model = with_int8_products(onnx.load(str(source)))
    onnx.save(model, str(target))
    return sum(node.op_type == "MatMulIntegerToFloat" for node in model.graph.node)


def calibrate(model: Any, feeds: Iterable[Mapping[str, Array]]) -> Maxima:
    """What ``with_int8_products`` smooths by, seen while ``model`` is run on ``feeds``.

    ``model``: an ``onnx.ModelProto`` below 2 GB. Raises ValueError where there are no feeds.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    names = sorted({node.input[0] for node, _ in _products(model)})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    del watched
    maxima: Maxima = {}
    for given in feeds:
        for name, values in zip(names, session.run(names, given), strict=True):
            seen = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            maxima[name] = np.maximum(maxima[name], seen) if name in maxima else seen
    if not maxima:
        raise ValueError("there is nothing to calibrate on")
    return maxima


def with_int8_products(model: Any, maxima: Maxima | None = None) -> Any:
    """An ``onnx.ModelProto`` with INT8 products in place of those with constant weights, else the same.

    With ``maxima`` channels are divided by a constant each, which the weights are multiplied by, so that the few with
    large values do not take the others' precision (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438). Raises
    ValueError for a product that was not calibrated.
    """
    from onnx import helper, version_converter

    opset = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < AXES_AS_INPUT:
        model = version_converter.convert_version(model, AXES_AS_INPUT)
    products = {node.output[0]: weights for node, weights in _products(model)}
    divisors = {} if maxima is None else _divisors(model, maxima)
    graph = Graph("int8_")
    for node in model.graph.node:
        if (weights := products.get(node.output[0])) is None:
            graph.nodes.append(node)
            continue
        result = graph.product(node.input[0], weights, divisors=divisors.get(node.input[0]))
        if len(node.input) > 2:
            graph.add("Add", result, node.input[2], output=node.output[0])
        else:
            graph.add("Identity", result, output=node.output[0])
    used = {name for node in graph.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    body = helper.make_graph(
        graph.nodes,
        model.graph.name,
        list(model.graph.input),
        list(model.graph.output),
        [*kept, *graph.constants],
    )
    opsets = {entry.domain: entry.version for entry in model.opset_import} | {MICROSOFT: OPSETS[MICROSOFT]}
    imports = [helper.make_opsetid(domain, version) for domain, version in opsets.items()]
    return helper.make_model(body, opset_imports=imports, ir_version=max(model.ir_version, IR_VERSION))


def _divisors(model: Any, maxima: Maxima) -> dict[str, NDArray[np.float32]]:
    """What the channels [k] in front of products are divided by, by value; their geometric mean is 1."""
    heaviest: Maxima = {}
    for node, weights in _products(model):
        rows = np.abs(weights).max(axis=1)
        heaviest[node.input[0]] = np.maximum(heaviest.get(node.input[0], 0), rows)
    if missing := heaviest.keys() - maxima.keys():
        raise ValueError(f"the value {min(missing)!r} was not calibrated")
    found = {}
    for name, rows in heaviest.items():
        logarithms = SMOOTHING * np.log(_floored(maxima[name])) - (1 - SMOOTHING) * np.log(_floored(rows))
        found[name] = np.exp(logarithms - logarithms.mean()).astype(np.float32)
    return found


def _floored(ranges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ranges without nothing in them, for logarithms."""
    return np.maximum(ranges, max(float(ranges.max()) * NARROWEST, 1e-9))


def _products(model: Any) -> Iterator[tuple[Any, Array]]:
    """The nodes of plain products that are worth quantising, with their constant weights [k, m]."""
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if (weights := _weights_of(node, tensors)) is not None:
            yield node, weights


def _weights_of(node: Any, tensors: dict[str, Any]) -> Array | None:
    """The constant [k, m] weights of a plain product that is worth quantising, else None."""
    from onnx import helper, numpy_helper

    if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in tensors:
        return None
    settings = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    if settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0 or settings.get("transA"):
        return None
    weights = numpy_helper.to_array(tensors[node.input[1]])
    if weights.ndim != 2 or weights.size < LEAST_WEIGHTS or weights.dtype != np.float32:
        return None
    return weights.T if settings.get("transB") else weights


# --- BERT ------------------------------------------------------------------------------------------------
# A BERT-like text tower (Devlin et al. 2019, arXiv:1810.04805) as an ONNX graph that computes no padding.
#
# The tokens of a batch lie in one row after the other; only attention sees them as a rectangle (as in
# ByteTransformer, Zhai et al. 2023, arXiv:2210.03052). A batch of captions is a third padding, one of questions
# half.


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

    weights = {name: value.detach().float().numpy() for name, value in body.state_dict().items()}
    onnx.save(_Writer(body.config, weights, int8=int8, fast=int8).model(), str(target))


def bert_model(config: Any, weights: Mapping[str, Array], words: Callable[[Graph], str]) -> Any:
    """The same graph with float products, for a ``BertConfig`` and arrays [out, in] by BertModel's names of them.

    ``words`` writes how ``tokens`` [t] become word embeddings [t, d]; the array of these is not asked for.
    """
    return _Writer(config, weights, int8=False, fast=True, words=words).model()


class _Writer:
    def __init__(
        self,
        config: Any,
        weights: Mapping[str, Array],
        *,
        int8: bool,
        fast: bool,
        words: Callable[[Graph], str] | None = None,
    ) -> None:
        self.config, self.graph, self.int8 = config, Graph(flat="places"), int8
        self.weights, self._words = weights, words or self._word_table
        # The tanh form takes a third less time; its error (.0005) is far below that of INT8.
        self._gelu = "BiasGelu" if config.hidden_act == "gelu" and not fast else "FastGelu"
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
        words = self._words(self.graph)
        # The one segment there is, added to the positions once for all.
        places = (
            tables["embeddings.position_embeddings.weight"]
            + tables["embeddings.token_type_embeddings.weight"][0]
        )
        return self._normed(
            "embeddings.LayerNorm.", add("Add", words, self.graph.table(places, "positions", int8=False))
        )

    def _word_table(self, graph: Graph) -> str:
        return graph.table(self.weights["embeddings.word_embeddings.weight"], "tokens", int8=self.int8)

    def _layer(self, name: str, rows: str) -> str:
        seen = self._attention(name + "attention.self.", name + "attention.output.dense.", rows)
        rows = self._normed(name + "attention.output.LayerNorm.", self.graph.add("Add", seen, rows))
        # The activation takes its bias itself: one pass over the widest rows less.
        inner = self._linear(name + "intermediate.dense.", rows, bias=None)
        bias = self.graph.constant(self.weights[name + "intermediate.dense.bias"])
        inner = self.graph.add(self._gelu, inner, bias, domain=MICROSOFT)
        weights, shift = (self.weights[f"{name}output.dense.{part}"] for part in ("weight", "bias"))
        outer = self.graph.product(inner, weights.T, shift, int8=self.int8, least=LEAST_GELU)
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
