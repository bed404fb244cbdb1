"""INT8 products for transformers that give the same answer on every CPU and in every batch.

Three things together, in plain ONNX operators:

- Activations are divided by a constant a channel, which the weights are multiplied by, so that the few channels with
  large values do not take the others' precision (SmoothQuant, Xiao et al. 2022, arXiv:2211.10438).
- Each row (a token) is rounded to a 127th of its own largest value, so that it does not depend on its neighbours.
- Weights have one scale a column and 7 bits. On x86-64 without VNNI the runtime adds pairs of 8-bit products in 16 bits
  and saturates: 2 · 255 · 63 fits there, 2 · 255 · 127 does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Products with fewer weights stay float: rounding their input would cost more than it saves.
LEAST_WEIGHTS = 64 * 64
WEIGHT_BITS = 7
SMOOTHING = 0.5
#: A channel's range is taken for at least this share of the widest one's: what the calibration saw of it may be less
#: than what will come.
NARROWEST = 1e-4

#: Since this opset ReduceMax takes its axes as an input.
AXES_AS_INPUT = 18

Array = NDArray[Any]
Maxima = dict[str, NDArray[np.float32]]


def calibrate(model: Any, feeds: Iterable[Mapping[str, Array]]) -> Maxima:
    """The largest magnitude of each channel [k] in front of every product that ``quantise`` replaces, by value name.

    ``model`` is an ``onnx.ModelProto`` (not changed, below 2 GB), ``feeds`` what it shall be run on. Raises ValueError
    where there are none.
    """
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    names = sorted({node.input[0] for node in _products(model)})
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in known
    )
    session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
    del watched
    maxima: Maxima = {}
    for feed in feeds:
        for name, values in zip(names, session.run(names, feed), strict=True):
            seen = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            maxima[name] = np.maximum(maxima[name], seen) if name in maxima else seen
    if not maxima:
        raise ValueError("there is nothing to calibrate on")
    return maxima


def quantise(
    model: Any, maxima: Maxima, *, weight_bits: int = WEIGHT_BITS, smoothing: float = SMOOTHING
) -> Any:
    """A model with INT8 products in place of the float ``MatMul`` with constant weights [k, m], else the same.

    ``maxima`` comes from ``calibrate``. ``smoothing`` is the share of a channel's range that moves from activations to
    weights, 0 to 1. ``weight_bits`` 8 is a little closer, and wrong on CPUs whose products saturate. Raises ValueError
    for a product that was not calibrated.
    """
    from onnx import helper

    products = _products(model)
    replaced = {node.output[0] for node in products}
    rewriter = _Rewriter(model, weight_bits)
    by_input: dict[str, list[Any]] = {}
    for node in products:
        by_input.setdefault(node.input[0], []).append(node)
    scales = {
        name: rewriter.smoothing(_calibrated(maxima, name), nodes, smoothing)
        for name, nodes in by_input.items()
    }
    for node in model.graph.node:
        if node.output[0] in replaced:
            rewriter.product(node, scales[node.input[0]])
        else:
            rewriter.nodes.append(node)
    used = {name for node in rewriter.nodes for name in node.input}
    kept = [one for one in model.graph.initializer if one.name in used]
    graph = helper.make_graph(
        rewriter.nodes,
        model.graph.name,
        list(model.graph.input),
        list(model.graph.output),
        [*kept, *rewriter.constants],
    )
    return helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)


def _calibrated(maxima: Maxima, name: str) -> NDArray[np.float32]:
    try:
        return maxima[name]
    except KeyError:
        raise ValueError(f"the value {name!r} was not calibrated") from None


def _products(model: Any) -> list[Any]:
    """The ``MatMul`` nodes of a graph whose weights are constant, float32 [k, m] and worth rounding."""
    from onnx import TensorProto

    sizes = {
        one.name: int(np.prod(one.dims))
        for one in model.graph.initializer
        if one.data_type == TensorProto.FLOAT and len(one.dims) == 2
    }
    return [
        node
        for node in model.graph.node
        if node.op_type == "MatMul" and sizes.get(node.input[1], 0) >= LEAST_WEIGHTS
    ]


class _Rewriter:
    """Collects the nodes and constants of the new graph."""

    def __init__(self, model: Any, weight_bits: int) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._weights = {one.name: one for one in model.graph.initializer}
        self._largest = (1 << (weight_bits - 1)) - 1
        self._rounded: dict[str, tuple[str, str]] = {}
        opset = max(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))
        self._axes_as_input = opset >= AXES_AS_INPUT
        self._middle = self._constant("rows.middle", np.array(128, np.uint8))
        self._zero = self._constant("rows.zero", np.array(0, np.int8))
        self._offset = self._constant("rows.offset", np.float32(128))
        self._step = self._constant("rows.step", np.float32(1 / 127))
        self._tiny = self._constant("rows.tiny", np.float32(1e-9))
        self._axis = self._constant("rows.axis", np.array([-1])) if self._axes_as_input else ""

    def smoothing(self, maxima: NDArray[np.float32], nodes: list[Any], share: float) -> NDArray[np.float32]:
        """What the channels [k] are divided by, for all products that read one value; their geometric mean is 1."""
        heaviest = np.max([np.abs(self._weights_of(node)).max(axis=1) for node in nodes], axis=0)
        if not share:
            return np.ones_like(heaviest)
        logarithms = share * np.log(_floored(maxima)) - (1 - share) * np.log(_floored(heaviest))
        return np.exp(logarithms - logarithms.mean()).astype(np.float32)

    def product(self, node: Any, divisors: NDArray[np.float32]) -> None:
        """``node`` in INT8, with its own output."""
        weights = self._weights_of(node) * divisors[:, None]
        steps = np.maximum(np.abs(weights).max(axis=0), 1e-9) / self._largest
        whole = np.round(weights / steps).astype(np.int8)
        levels, row_steps = self._rows(node.input[0], divisors)
        name = f"{node.output[0]}.rows"
        weight_levels = self._constant(f"{name}.weights", whole)
        weight_steps = self._constant(f"{name}.scales", steps.astype(np.float32))
        summed = self._add("MatMulInteger", [levels, weight_levels, self._middle, self._zero], f"{name}.sum")
        summed = self._add("Cast", [summed], f"{name}.float", to=1)
        summed = self._add("Mul", [summed, row_steps], f"{name}.scaled")
        self._add("Mul", [summed, weight_steps], node.output[0])

    def _rows(self, value: str, divisors: NDArray[np.float32]) -> tuple[str, str]:
        """Rows as uint8 around 128 and the step of each, made once for all products that read ``value``."""
        if value not in self._rounded:
            name = f"{value}.rows"
            factors = self._constant(f"{name}.factors", (1 / divisors).astype(np.float32))
            smooth = self._add("Mul", [value, factors], f"{name}.smooth")
            magnitudes = self._add("Abs", [smooth], f"{name}.magnitudes")
            peak = self._add("Max", [self._row_maxima(magnitudes, name), self._tiny], f"{name}.peak")
            steps = self._add("Mul", [peak, self._step], f"{name}.steps")
            shares = self._add("Div", [smooth, steps], f"{name}.shares")
            shifted = self._add("Add", [shares, self._offset], f"{name}.shifted")
            levels = self._add("Round", [shifted], f"{name}.round")
            self._rounded[value] = self._add("Cast", [levels], f"{name}.levels", to=2), steps
        return self._rounded[value]

    def _row_maxima(self, magnitudes: str, name: str) -> str:
        if self._axes_as_input:
            return self._add("ReduceMax", [magnitudes, self._axis], f"{name}.largest", keepdims=1)
        return self._add("ReduceMax", [magnitudes], f"{name}.largest", axes=[-1], keepdims=1)

    def _weights_of(self, node: Any) -> NDArray[np.float32]:
        from onnx import numpy_helper

        return numpy_helper.to_array(self._weights[node.input[1]])

    def _constant(self, name: str, values: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=f"n_{output}", **attributes))
        return output


def _floored(ranges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ranges without nothing in them, for logarithms."""
    return np.maximum(ranges, max(float(ranges.max()) * NARROWEST, 1e-9))
