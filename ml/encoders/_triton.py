"""An exported network that runs on an inference server: Triton, or whatever else speaks the Open Inference Protocol v2.

Texts are cut and pictures resized here; only tensors travel, as bytes where the server announces Triton's extension
``binary_tensor_data``, else as JSON. https://github.com/kserve/open-inference-protocol (HTTP/REST, required API).
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import urllib3
from numpy.typing import NDArray

log = logging.getLogger(__name__)

#: Settings: the server's address (none: no server), seconds for an answer, and ``refuse`` or ``local`` without one.
URL, TIMEOUT, FALLBACK = "TRITON_URL", "TRITON_TIMEOUT_S", "TRITON_FALLBACK"
CONNECT_S, DEFAULT_TIMEOUT_S = 1.0, 5.0
#: How long nobody asks a server that did not answer.
REST_S = 30.0
#: The least cosine between what the server and this process make of the same input; fp16 and INT8 stay above.
LEAST_COSINE = 0.97
#: An answer longer than this is a fault of the server.
MAX_ANSWER = 256 << 20

TYPES = {
    "float32": "FP32",
    "float16": "FP16",
    "int64": "INT64",
    "int32": "INT32",
    "uint8": "UINT8",
}
Feeds = Mapping[str, NDArray[Any]]


class ServerFailed(RuntimeError):
    """The server is away, slow, or answered with what is no answer. ``passing``: another time it may not."""

    def __init__(self, message: str, *, passing: bool = True) -> None:
        super().__init__(message)
        self.passing = passing


class Server:
    """A client of one address. Thread-safe."""

    def __init__(self, url: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{URL} is an address of http or https, not {url!r}")
        self._url = url.rstrip("/")
        timeout = urllib3.Timeout(connect=min(CONNECT_S, timeout_s), read=timeout_s)
        self._pool = urllib3.PoolManager(maxsize=32, timeout=timeout, retries=False)
        self._binary: bool | None = None

    def has(self, model: str) -> bool:
        """Whether it serves the model now. Raises ServerFailed where it does not answer."""
        status, _, _ = self._ask("GET", f"/v2/models/{model}/ready")
        return status == 200

    def infer(self, model: str, feeds: Feeds, output: str) -> NDArray[Any]:
        """One output of the model for these inputs. Raises ServerFailed."""
        binary = self._takes_bytes()
        inputs, blobs = [], list[bytes]()
        for name, value in feeds.items():
            told: dict[str, Any] = {
                "name": name,
                "shape": list(value.shape),
                "datatype": TYPES[value.dtype.name],
            }
            if binary:
                blobs.append(np.ascontiguousarray(value).tobytes())
                told["parameters"] = {"binary_data_size": len(blobs[-1])}
            else:
                told["data"] = value.ravel().tolist()
            inputs.append(told)
        wanted = {"name": output} | ({"parameters": {"binary_data": True}} if binary else {})
        head = json.dumps({"inputs": inputs, "outputs": [wanted]}).encode()
        headers = {"Content-Type": "application/octet-stream" if binary else "application/json"}
        headers |= {"Inference-Header-Content-Length": str(len(head))} if binary else {}
        status, answered, body = self._ask(
            "POST", f"/v2/models/{model}/infer", b"".join([head, *blobs]), headers
        )
        if status != 200:
            # 4xx: of this model or this input; 429 and 5xx pass.
            passing = status == 429 or status >= 500
            raise ServerFailed(f"it answered {status}: {_error(body)}", passing=passing)
        try:
            return _output(body, answered.get("Inference-Header-Content-Length"), output)
        except (ValueError, KeyError, TypeError, StopIteration) as error:
            raise ServerFailed(f"it sent no tensor {output!r}: {error}"[:300], passing=False) from error

    def _takes_bytes(self) -> bool:
        if self._binary is None:
            status, _, body = self._ask("GET", "/v2")
            try:
                extensions = json.loads(body).get("extensions", []) if status == 200 else []
            except (ValueError, AttributeError):
                extensions = []
            self._binary = "binary_tensor_data" in extensions
        return self._binary

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        try:
            answer = self._pool.request(
                method, self._url + path, body=body, headers=headers, preload_content=False
            )
            try:
                content = answer.read(MAX_ANSWER + 1)
            finally:
                answer.release_conn()
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ServerFailed(f"{type(error).__name__}: {error}"[:300]) from error
        if len(content) > MAX_ANSWER:
            raise ServerFailed(f"it sent more than {MAX_ANSWER} bytes", passing=False)
        return answer.status, answer.headers, content


def _error(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])[:200]
    except (ValueError, KeyError, TypeError):
        return repr(body[:100])


def _output(body: bytes, head: str | None, name: str) -> NDArray[Any]:
    size = len(body) if head is None else int(head)
    outputs, rest = json.loads(body[:size])["outputs"], body[size:]
    at = 0
    for told in outputs:
        length = int(told.get("parameters", {}).get("binary_data_size", 0))
        if told["name"] == name:
            kind = next(short for short, long in TYPES.items() if long == told["datatype"])
            flat = np.frombuffer(rest[at : at + length], kind) if length else np.array(told["data"], kind)
            return flat.reshape(told["shape"])
        at += length
    raise KeyError(name)


class Placed:
    """A session (as ONNX Runtime's) that asks a server first, and this process where that fails, if it may.

    A server that failed is left alone for ``REST_S``. Where it refuses a model or makes something else of it, it is not
    asked for it again. With ``fallback`` "refuse" this raises ServerFailed instead.
    """

    def __init__(
        self,
        server: Server,
        model: str,
        local: Any,
        *,
        fallback: str = "local",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server, self._model, self._local = server, model, local
        self._output = local.get_outputs()[0].name
        self._fallback, self._clock = fallback, clock
        self._lock = threading.Lock()
        self._rest_until, self._checked = 0.0, False

    def run(self, names: Any, feeds: Feeds) -> list[Any]:
        """As a session's: the first output, in a list."""
        if self._clock() >= self._rest_until:
            try:
                return [self._asked(feeds)]
            except ServerFailed as error:
                self._rest(error)
                if self._fallback == "refuse":
                    raise
        elif self._fallback == "refuse":
            raise ServerFailed(f"the server of {self._model!r} failed a moment ago")
        return list(self._local.run(names, feeds))

    def _asked(self, feeds: Feeds) -> NDArray[Any]:
        found = self._server.infer(self._model, feeds, self._output).astype(np.float32)
        if not self._checked:
            self._check(found, feeds)
        return found

    def _check(self, found: NDArray[Any], feeds: Feeds) -> None:
        """Once: the server's model may have the name and not the weights."""
        ours = self._local.run(None, feeds)[0]
        if found.shape != ours.shape:
            raise ServerFailed(f"its vectors are {found.shape}, ours {ours.shape}", passing=False)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(ours, axis=1)
        least = float(np.min(np.sum(found * ours, axis=1) / np.maximum(norms, 1e-12), initial=1.0))
        if not least >= LEAST_COSINE:
            raise ServerFailed(f"its vectors are others (cosine {least:.3f})", passing=False)
        self._checked = True

    def _rest(self, error: ServerFailed) -> None:
        with self._lock:
            self._rest_until = self._clock() + REST_S if error.passing else float("inf")
        log.warning(
            "the inference server failed for %s%s: %s",
            self._model,
            "" if error.passing else ", and is not asked for it again",
            error,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)


def placed(model: str, local: Any) -> Any:
    """The session, or one that asks the server of the settings first. Raises ValueError for wrong settings."""
    url = os.environ.get(URL, "")
    if not url:
        return local
    fallback = os.environ.get(FALLBACK) or "local"
    if fallback not in ("local", "refuse"):
        raise ValueError(f"{FALLBACK} is local or refuse, not {fallback!r}")
    return Placed(
        Server(url, float(os.environ.get(TIMEOUT) or DEFAULT_TIMEOUT_S)), model, local, fallback=fallback
    )
