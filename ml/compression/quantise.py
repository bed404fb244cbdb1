"""ONNX export and the two INT8 recipes, each fitted to one kind of network.

Text: dynamic INT8 (activations scaled at run time); static ranges cost transformers too much accuracy.
Pictures: static QDQ INT8 with calibrated ranges; dynamic INT8 has no fast convolution and ruins accuracy.
Both after onnxruntime's quantisation guide and Jacob et al. 2018 (arXiv:1712.05877).
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The least mean cosine to the fp32 reference that a quantised model may have.
TEXT_FLOOR, IMAGE_FLOOR = 0.99, 0.98
#: Weights of fewer numbers stay float32, and so do those that fp16 cannot hold.
LEAST_HALVED, LARGEST_HALF = 4096, 65504.0


class ParityError(RuntimeError):
    """A quantised model strays too far from its fp32 original and is refused."""


def export_onnx(
    module: Any,
    example: tuple[Any, ...],
    path: Path,
    names: Sequence[str],
    output: str | Sequence[str],
    dynamic: tuple[dict[int, Any], ...],
) -> None:
    """Write ``module`` (eval mode) as an ONNX file with dynamic axes and weights inside."""
    import torch

    with _quiet(), torch.no_grad():
        torch.onnx.export(
            module,
            example,
            str(path),
            input_names=list(names),
            output_names=[output] if isinstance(output, str) else list(output),
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def quantise_text(source: Path, target: Path) -> None:
    """Dynamic INT8, one scale a weight column (one a matrix costs .04 of cosine)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            str(source),
            str(target),
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            nodes_to_exclude=_first_contraction(source),
            extra_options={"MatMulConstBOnly": True},
        )


def quantise_pictures(source: Path, target: Path, pictures: NDArray[np.uint8], *, reduce_range: bool) -> None:
    """Static QDQ INT8 with ranges seen on ``pictures`` uint8 [n, side, side, 3].

    The first three convolutions stay float: they see raw pixels, take 5 % of the time and cost most of the
    accuracy. ``reduce_range`` spends one bit to be safe on CPUs whose 8-bit products saturate (no VNNI).
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with _quiet():
        quantize_static(
            str(source),
            str(target),
            _calibration(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Add", "Clip"],
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=_names(source, "Conv")[:3],
        )


def preprocess(source: Path, target: Path) -> None:
    """Fold constants and infer shapes, as both quantisers ask."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with _quiet():
        quant_pre_process(str(source), str(target), skip_symbolic_shape=True)


def store_halved(source: Path, target: Path) -> None:
    """Store large float32 weights as fp16: half the file. The runtime widens them on opening, and computes as ever."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST_HALVED:
            continue
        name, values = tensor.name, numpy_helper.to_array(tensor)
        if np.abs(values).max() > LARGEST_HALF:
            continue
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
        casts.append(
            helper.make_node("Cast", [tensor.name], [name], name=f"{name}_widened", to=TensorProto.FLOAT)
        )
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(target))


def compute_halved(source: Path, target: Path) -> None:
    """Compute in fp16, for graphics cards: half the memory, and their fast units. Inputs and outputs stay float32."""
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quiet():
        onnx.save(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(target))


def mean_cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Mean over rows of the cosine between two [n, d] arrays."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return float(np.mean(np.sum(one * other, axis=1) / norms))


def _calibration(pictures: NDArray[np.uint8]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rows = iter(pictures)

        def get_next(self) -> dict[str, Any] | None:
            row = next(self.rows, None)
            return None if row is None else {"pixels": row[None]}

    return Reader()


def _names(path: Path, operator: str) -> list[str]:
    import onnx

    return [node.name for node in onnx.load(str(path)).graph.node if node.op_type == operator]


def _first_contraction(path: Path) -> list[str]:
    """The first feed-forward layer's way back (1536 to 384): alone it loses a fifth of the INT8 error."""
    import onnx

    graph = onnx.load(str(path)).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul"]
    found = [node.name for node in products if shapes.get(node.input[1]) == (1536, 384)]
    return found[:1]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Exporters and quantisers warn about their own internals; what matters is checked by parity."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
