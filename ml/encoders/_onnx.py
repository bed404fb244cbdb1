"""One ONNX Runtime session, set up alike for every bundled encoder."""

from __future__ import annotations

import os
from pathlib import Path

import onnxruntime

#: Above one, two threads on a 2-core machine cut a picture's latency by a third and steal the other core
#: from everything else; a worker that encodes with several processes wants one.
DEFAULT_THREADS = 1


def open_session(model: Path | bytes) -> onnxruntime.InferenceSession:
    """Open a model, a file or its content, on CUDA where present.

    CROSSLIGHT_ENCODER_THREADS sets the threads of one call.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("CROSSLIGHT_ENCODER_THREADS") or DEFAULT_THREADS)
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would burn the cores that the web server and other workers need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
    content = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(content, options, providers=wanted)


def device_of(session: onnxruntime.InferenceSession) -> str:
    """``cuda`` or ``cpu``, whichever the session really runs on."""
    return "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
