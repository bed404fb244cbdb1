"""INT8 products with a scale a row, with and without smoothed channels: the same on every processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ml.compression.graph import calibrate, with_int8_products

onnx = pytest.importorskip("onnx")

Array = NDArray[Any]


def _two_products(rng: np.random.Generator, opset: int = 20) -> Any:
    """x [n, t, 96] to y and z by weights of their own; and x times a small matrix, and y times z."""
    from onnx import TensorProto, helper, numpy_helper

    names = {"w": (96, 64), "v": (96, 80), "small": (96, 3)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), n) for n, s in names.items()]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("MatMul", ["x", "v"], ["z"]),
        helper.make_node("MatMul", ["x", "small"], ["s"]),
        helper.make_node("Transpose", ["y"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["turned", "z"], ["crossed"]),
    ]
    ends = {"y": ("n", "t", 64), "z": ("n", "t", 80), "s": ("n", "t", 3), "crossed": ("n", 64, 80)}
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in ends.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", "t", 96))]
    graph = helper.make_graph(nodes, "two", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def _run(model: Any, rows: Array) -> dict[str, Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": rows}), strict=True))


def _with_wide_channels(rng: np.random.Generator) -> Array:
    """Rows of very different length, in which four channels are 60 times as wide as the others."""
    rows = rng.normal(size=(5, 7, 96)).astype(np.float32)
    rows[..., [3, 17, 40, 77]] *= 60
    rows *= 10.0 ** rng.uniform(-2, 2, size=(5, 7, 1)).astype(np.float32)
    return rows


def _error(found: Array, wanted: Array) -> float:
    """The mean over rows of the relative error."""
    lengths = np.linalg.norm(wanted, axis=-1)
    return float(np.mean(np.linalg.norm(found - wanted, axis=-1) / lengths))


@pytest.mark.parametrize("opset", [14, 20])
def test_products_stay_close_and_smoothing_is_why(opset: int) -> None:
    rng = np.random.default_rng(0)
    model = _two_products(rng, opset)
    maxima = calibrate(model, [{"x": _with_wide_channels(rng)} for _ in range(4)])
    assert {name: seen.shape for name, seen in maxima.items()} == {"x": (96,)}
    wide = _with_wide_channels(rng)
    wanted = _run(model, wide)
    smooth, plain = (_run(with_int8_products(model, given), wide) for given in (maxima, None))
    for name in "yz":
        assert _error(smooth[name], wanted[name]) < 0.02
        assert _error(plain[name], wanted[name]) > 1.15 * _error(smooth[name], wanted[name])


def test_only_products_with_large_constant_weights_change() -> None:
    rng = np.random.default_rng(1)
    model = _two_products(rng)
    made = with_int8_products(model, calibrate(model, [{"x": _with_wide_channels(rng)}]))
    onnx.checker.check_model(made)
    kinds = [node.op_type for node in made.graph.node]
    assert (kinds.count("MatMulIntegerToFloat"), kinds.count("MatMul")) == (2, 2)
    # Both products read the same rounded rows.
    assert kinds.count("QuantizeLinear") == 1
    assert {one.name for one in made.graph.initializer} & {"w", "v", "small"} == {"small"}
    rows = _with_wide_channels(rng)
    np.testing.assert_array_equal(_run(made, rows)["s"], _run(model, rows)["s"])
    assert made.ByteSize() < 0.5 * model.ByteSize()


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(2)
    model = _two_products(rng)
    made = with_int8_products(model, calibrate(model, [{"x": _with_wide_channels(rng)}]))
    rows = _with_wide_channels(rng)
    rows[1] *= 1000
    together = _run(made, rows)
    for number in range(len(rows)):
        alone = _run(made, rows[number : number + 1])
        for name in "yz":
            np.testing.assert_array_equal(alone[name][0], together[name][number])


def test_nothing_saturates_where_all_is_as_large_as_can_be() -> None:
    """Sums are exact on every CPU: every level and every weight at its limit, one sign."""
    rng = np.random.default_rng(3)
    model = _two_products(rng)
    signs = np.ones((96, 64), np.float32)
    from onnx import numpy_helper

    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(signs, "w"))
    rows = np.ones((1, 1, 96), np.float32)
    made = with_int8_products(model)
    np.testing.assert_allclose(_run(made, rows)["y"], 96, rtol=1e-5)
    np.testing.assert_allclose(_run(made, -rows)["y"], -96, rtol=1e-5)
    product = next(node for node in made.graph.node if node.op_type == "MatMulIntegerToFloat")
    weights = next(
        numpy_helper.to_array(one) for one in made.graph.initializer if one.name == product.input[1]
    )
    # All of the eight bits are used.
    assert weights.min() == weights.max() == 255


def test_empty_rows_and_channels_never_seen() -> None:
    rng = np.random.default_rng(4)
    model = _two_products(rng)
    seen = _with_wide_channels(rng)
    seen[..., 5] = 0
    made = with_int8_products(model, calibrate(model, [{"x": seen}]))
    found = _run(made, np.zeros((1, 2, 96), np.float32))
    np.testing.assert_array_equal(found["y"], np.zeros((1, 2, 64)))
    rows = rng.normal(size=(1, 4, 96)).astype(np.float32)
    assert np.isfinite(_run(made, rows)["y"]).all()


def test_what_was_not_calibrated_is_named() -> None:
    model = _two_products(np.random.default_rng(5))
    with pytest.raises(ValueError, match="'x' was not calibrated"):
        with_int8_products(model, {})
    with pytest.raises(ValueError, match="nothing to calibrate on"):
        calibrate(model, [])
