"""One ONNX Runtime session, set up alike for every encoder that runs on it."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import onnxruntime

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

log = logging.getLogger(__name__)


def open_session(model: Path | bytes, *, without: tuple[str, ...] = ()) -> onnxruntime.InferenceSession:
    """Open a model, a file or its content, on the first provider of the setting that works here.

    CROSSLIGHT_ONNX_PROVIDERS lists providers, CROSSLIGHT_ENCODER_THREADS sets the threads of one call; ``without``
    names optimisations of the runtime to leave out. Raises ValueError for a provider that has no name here.
    """
    content = model if isinstance(model, bytes) else str(model)
    wanted = wanted_providers()
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


def device_of(session: onnxruntime.InferenceSession) -> str:
    """``cuda`` or ``cpu``, whichever the session really runs on."""
    return "cpu" if session.get_providers()[0] == PROVIDERS["cpu"] else "cuda"


def _open(content: Any, providers: list[str], without: tuple[str, ...]) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("CROSSLIGHT_ENCODER_THREADS") or DEFAULT_THREADS)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would burn the cores that the web server and other workers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(
        content, options, providers=providers, disabled_optimizers=list(without)
    )
