"""A few lines to write ONNX graphs by hand, and INT8 products that scale each row by itself.

Dynamic INT8 as onnxruntime's quantiser makes it takes one scale from the whole batch: a text's vector then depends on
its neighbours, and one large token costs all others their precision. Here each row (a token) is divided by its own
largest value and rounded to a fixed grid, so rows are independent and nothing has to be calibrated (the scheme of
LLM.int8, Dettmers et al. 2022, arXiv:2208.07339, without its outliers). Weights have one scale a column.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MICROSOFT = "com.microsoft"
OPSETS = {"": 20, MICROSOFT: 1}
IR_VERSION = 9

#: Products with fewer weights than this stay float: quantising their input would cost more than it saves.
LEAST_WEIGHTS = 64 * 64

Array = NDArray[Any]


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
    ) -> str:
        """``rows @ weights + bias``, weights [k, m] float32, in INT8 with a scale a row and a column, or float32.

        ``least``: no element of ``rows`` is below it, a small negative number; then their magnitude is their maximum.
        """
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

    def _int8_product(self, rows: str, weights: Array, least: float | None) -> str:
        whole, scales = rounded(weights)
        levels, steps = self._rounded_rows(rows, least)
        result = self.add(
            "MatMulIntegerToFloat", levels, self.constant(whole), self.constant(1.0), self.constant(scales),
            self.constant(np.array(128, np.uint8)), self.constant(np.zeros(len(scales), np.int8)),
            domain=MICROSOFT,
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
                "QuantizeLinear", shares, self.constant(1.0), self.constant(np.array(128, np.uint8))
            )
        zeros = self._rounded.get("zeros")
        if zeros is None:
            from onnx import numpy_helper

            middle = numpy_helper.from_array(np.array([128], np.uint8))
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
    from onnx import helper

    model = onnx.load(str(source))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    graph, replaced = Graph("int8_"), 0
    for node in model.graph.node:
        weights = _weights_of(node, tensors)
        if weights is None:
            graph.nodes.append(node)
            continue
        replaced += 1
        result = graph.product(node.input[0], weights)
        if len(node.input) > 2:
            graph.add("Add", result, node.input[2], output=node.output[0])
        else:
            graph.add("Identity", result, output=node.output[0])
    used = {name for node in graph.nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(graph.nodes)
    model.graph.initializer.extend([*kept, *graph.constants])
    if all(entry.domain != MICROSOFT for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(MICROSOFT, 1))
    onnx.save(model, str(target))
    return replaced


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
