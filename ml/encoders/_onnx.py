"""One ONNX Runtime session, set up alike for every encoder that runs on it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import onnxruntime

from ml import devices

#: Above one, two threads on a 2-core machine cut a picture's latency by a third and steal the other core
#: from everything else; a worker that encodes with several processes wants one.
DEFAULT_THREADS = 1

#: What CROSSLIGHT_ONNX_PROVIDERS may name, best first; without the variable CUDA is used where present.
PROVIDERS = {
    "tensorrt": "TensorrtExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
DEFAULT_PROVIDERS = "cuda,cpu"
#: Variables of `provider_options`.
DEVICE, FP16 = "CROSSLIGHT_ONNX_DEVICE", "CROSSLIGHT_ONNX_FP16"
ENGINES, MEMORY = "CROSSLIGHT_ONNX_ENGINES", "CROSSLIGHT_ONNX_MEMORY_BYTES"
SETTINGS = ("CROSSLIGHT_ONNX_PROVIDERS", DEVICE, FP16, ENGINES, MEMORY)

log = logging.getLogger(__name__)


def open_session(model: Path | bytes, *, without: tuple[str, ...] = ()) -> onnxruntime.InferenceSession:
    """Open a model, a file or its content, on the first provider of the setting that works here.

    CROSSLIGHT_ONNX_PROVIDERS lists providers, CROSSLIGHT_ENCODER_THREADS sets the threads of one call; ``without``
    names optimisations of the runtime to leave out; ``provider_options`` tells what else is set. Raises ValueError for
    a provider that has no name here, and for a setting that is no number.
    """
    content = model if isinstance(model, bytes) else str(model)
    wanted = wanted_providers()
    for provider in wanted:
        provider_options(provider)  # a setting that is wrong is no provider that fails
    while True:
        try:
            session = _open(content, wanted, without)
        except Exception:
            # A provider whose libraries or device are missing; the CPU's own errors are the model's.
            if wanted == [PROVIDERS["cpu"]]:
                raise
            log.warning("ONNX Runtime cannot use %s here; going on without it", wanted[0], exc_info=True)
            wanted = wanted[1:]
            continue
        if session.get_providers()[0] != wanted[0]:
            log.warning("ONNX Runtime runs on %s instead of %s", session.get_providers()[0], wanted[0])
        devices.opened[device_of(session)] += 1
        return session


def wanted_providers() -> list[str]:
    """The providers of the setting that this build of ONNX Runtime has, the CPU last; others are told in the log."""
    setting = os.environ.get("CROSSLIGHT_ONNX_PROVIDERS", "")
    names = [name.strip().lower() for name in (setting or DEFAULT_PROVIDERS).split(",") if name.strip()]
    if unknown := sorted(set(names) - PROVIDERS.keys()):
        raise ValueError(f"CROSSLIGHT_ONNX_PROVIDERS: {unknown[0]!r} is none of {', '.join(PROVIDERS)}")
    available = onnxruntime.get_available_providers()
    missing = [name for name in names if PROVIDERS[name] not in available]
    if missing and setting:
        log.warning(
            "this ONNX Runtime has no provider %s; it has %s", ", ".join(missing), ", ".join(available)
        )
    found = [PROVIDERS[name] for name in names if name not in missing and name != "cpu"]
    return [*found, PROVIDERS["cpu"]]


def provider_options(provider: str) -> dict[str, str]:
    """What a provider is told: the card's number, its memory at most, TensorRT's precision and its folder of engines.

    From CROSSLIGHT_ONNX_DEVICE (0), _MEMORY_BYTES (0: all), _FP16 (1) and _ENGINES (none: built anew each time, which
    takes minutes). Raises ValueError for a number that is none.
    """
    if provider == PROVIDERS["cpu"]:
        return {}
    options = {"device_id": str(_number(DEVICE, 0))}
    memory = _number(MEMORY, 0)
    if provider == PROVIDERS["cuda"]:
        # What is asked for and no power of two above it: several processes share a card.
        options["arena_extend_strategy"] = "kSameAsRequested"
        return options | ({"gpu_mem_limit": str(memory)} if memory else {})
    options |= {"trt_fp16_enable": str(bool(_number(FP16, 1)))}
    if memory:
        options["trt_max_workspace_size"] = str(memory)
    if folder := os.environ.get(ENGINES):
        Path(folder).mkdir(parents=True, exist_ok=True)
        options |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": folder}
        options |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": folder}
    return options


def _number(name: str, default: int) -> int:
    value = os.environ.get(name) or str(default)
    if not value.isdecimal():
        raise ValueError(f"{name} is a whole number from 0 on, not {value!r}")
    return int(value)


def has_card() -> bool:
    """Whether the system shows a card of NVIDIA's; says nothing of its driver or of the runtime."""
    return any(Path("/dev").glob("nvidia[0-9]*"))


def describe() -> tuple[str, str]:
    """Where sessions begin to run here, ``tensorrt``, ``cuda`` or ``cpu``, and for a CPU beside a card, why."""
    first = wanted_providers()[0]
    name = next(short for short, full in PROVIDERS.items() if full == first)
    if name != "cpu" or not has_card():
        return name, ""
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return name, "CROSSLIGHT_ONNX_PROVIDERS names neither cuda nor tensorrt"
    return name, "this ONNX Runtime has no provider for it: onnxruntime-gpu is not installed"


def device_of(session: onnxruntime.InferenceSession) -> str:
    """``cuda`` or ``cpu``, whichever the session really runs on."""
    return "cpu" if session.get_providers()[0] == PROVIDERS["cpu"] else "cuda"


def _open(content: Any, providers: list[str], without: tuple[str, ...]) -> onnxruntime.InferenceSession:
    if PROVIDERS["cpu"] != providers[0]:
        # CUDA's libraries as pip installs them, which the loader would not find by itself.
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("CROSSLIGHT_ENCODER_THREADS") or DEFAULT_THREADS)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would burn the cores that the web server and other workers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        content,
        options,
        providers=[(one, provider_options(one)) for one in providers],
        disabled_optimizers=list(without),
    )
