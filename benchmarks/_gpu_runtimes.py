"""The same networks as ONNX: fp32 and fp16 by ONNX Runtime's CUDA provider, fp16 and INT8 by TensorRT's."""

from __future__ import annotations

import importlib.util
import tempfile
import warnings
from pathlib import Path
from typing import Any

from _gpu_device import NOT_INSTALLED, failure, name, rate
from _gpu_networks import NETWORKS, inputs
from _report import Line, sized

TITLES = sized(("CLIP ViT-B/16 picture", "BERT-base, 128 tokens", "ResNet-101"), ("BERT-base, 128 tokens",))
BATCHES = sized((1, 16, 64), (2,))
CUDA, TENSORRT, CPU = "CUDAExecutionProvider", "TensorrtExecutionProvider", "CPUExecutionProvider"


def run() -> list[Line]:
    lines = [_package("onnxruntime"), _package("tensorrt")]
    if absent := [
        one for one in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(one) is None
    ]:
        return [*lines, *(Line(one, NOT_INSTALLED) for one in absent if one != "onnxruntime")]
    import onnxruntime

    available = onnxruntime.get_available_providers()
    providers = [one for one in (CUDA, TENSORRT) if one in available] if name() == "cuda" else [CPU]
    lines += [
        Line(f"ONNX Runtime with {one} (onnxruntime-gpu)", NOT_INSTALLED)
        for one in (CUDA, TENSORRT)
        if one not in available
    ]
    if not providers:
        return lines
    if CUDA in providers:
        onnxruntime.preload_dlls()
    for title in TITLES:
        with tempfile.TemporaryDirectory() as folder:
            lines += _of(title, Path(folder), providers)
    return lines


def _package(module: str) -> Line:
    from importlib.metadata import PackageNotFoundError, version

    for package in (f"{module}-gpu", module):
        try:
            return Line(package, version(package))
        except PackageNotFoundError:
            continue
    return Line(module, NOT_INSTALLED)


def _of(title: str, folder: Path, providers: list[str]) -> list[Line]:
    lines: list[Line] = []
    made = _exported(title, folder, lines)
    best = {
        (provider, precision): max(
            (_measure(title, provider, precision, path, rows, folder, lines) for rows in BATCHES), default=0.0
        )
        for provider in providers
        for precision, path in made.items()
        # CUDA's provider computes what is quantised in float: only TensorRT has INT8 kernels.
        if precision != "int8" or provider != CUDA
    }
    base = best.get((CUDA if CUDA in providers else providers[0], "fp32"), 0.0)
    quick = max((found for (_, precision), found in best.items() if precision == "int8"), default=0.0)
    if base and quick:
        lines.append(Line(f"{title}: INT8 to fp32, best batches", round(quick / base, 2), "x"))
        lines.append(Line(f"{title}: INT8 three times as fast", "yes" if quick >= 3 * base else "no"))
    return lines


def _exported(title: str, folder: Path, lines: list[Line]) -> dict[str, Path]:
    """Files by precision. INT8 has symmetric ranges of random input, as TensorRT asks."""
    made = {}
    for precision, make in (("fp32", _export), ("fp16", _halve), ("int8", _quantise)):
        path = folder / f"{precision}.onnx"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make(title, folder / "fp32.onnx", path)
            made[precision] = path
        except Exception as error:
            lines.append(Line(f"{title}: {precision} as ONNX", failure(error)))
            if precision == "fp32":
                break
    return made


def _export(title: str, _: Path, path: Path) -> None:
    import torch

    network, given = NETWORKS[title](), inputs(title, 2).cpu()
    rows = torch.export.Dim("rows", min=1, max=1024)
    with torch.no_grad():
        torch.onnx.export(
            network,
            (given,),
            str(path),
            input_names=["given"],
            output_names=["vectors"],
            dynamic_shapes=({0: rows},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def _halve(title: str, source: Path, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.save(convert_float_to_float16(onnx.load(str(source)), keep_io_types=True), str(path))


def _quantise(title: str, source: Path, path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Some(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = sized(16, 1)

        def get_next(self) -> dict[str, Any] | None:
            self.left -= 1
            return None if self.left < 0 else {"given": inputs(title, 1).cpu().numpy()}

    quantize_static(
        str(source),
        str(path),
        Some(),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=["Conv", "MatMul", "Gemm"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        extra_options={"ActivationSymmetric": True, "WeightSymmetric": True},
    )


def _measure(
    title: str, provider: str, precision: str, path: Path, rows: int, folder: Path, lines: list[Line]
) -> float:
    import onnxruntime

    what = f"{title}, {provider.removesuffix('ExecutionProvider')}, {precision}, batch {rows}"
    try:
        chain = [(provider, _options(provider, precision, folder))]
        chain += [(CUDA, {})] if provider == TENSORRT else []
        session_options = onnxruntime.SessionOptions()
        session_options.log_severity_level = 4
        last = [] if provider == CPU else [CPU]
        session = onnxruntime.InferenceSession(str(path), session_options, providers=[*chain, *last])
        if session.get_providers()[0] != provider:
            raise RuntimeError(f"it runs on {session.get_providers()[0]}")
        given = {"given": inputs(title, rows).cpu().numpy()}
        found = rate(lambda: session.run(None, given)) * rows
    except Exception as error:
        lines.append(Line(what, failure(error)))
        return 0.0
    lines.append(Line(what, round(found, 1), "a second"))
    return found


def _options(provider: str, precision: str, folder: Path) -> dict[str, str]:
    if provider != TENSORRT:
        return {}
    return {
        "trt_fp16_enable": str(precision != "fp32"),
        "trt_int8_enable": str(precision == "int8"),
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(folder),
    }
