"""Encoders on an inference server. The server here is the tests' own: it speaks the protocol, and is not Triton."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ml.encoders._triton import REST_S, Placed, Server, ServerFailed, placed
from tests.ml.test_cards import small_model
from tests.waiting import pause

ROWS = np.array([[1, 2], [3, 4], [5, -6]], np.float32)


class Model(ThreadingHTTPServer):
    """Open Inference Protocol v2 over HTTP for one model `twice`: y = 2 x, of float32 [n, 2]."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.binary, self.factor, self.status, self.slow_s = True, 2.0, 200, 0.0
        self.asked: list[tuple[str, str]] = []
        self.kinds: list[str] = []

    def handle_error(self, *_: Any) -> None:
        """Whoever asked has gone."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Model
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.server.asked.append(("GET", self.path))
        if self.path == "/v2":
            extensions = ["binary_tensor_data"] if self.server.binary else []
            self.answer(200, json.dumps({"name": "test", "version": "1", "extensions": extensions}).encode())
        else:
            self.answer(200 if self.path == "/v2/models/twice/ready" else 400, b"{}")

    def do_POST(self) -> None:
        self.server.asked.append(("POST", self.path))
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.slow_s:
            pause(self.server.slow_s, "a server that is slow")
        if self.server.status != 200:
            return self.answer(self.server.status, b'{"error": "of this test"}')
        size = int(self.headers.get("Inference-Header-Content-Length", len(body)))
        request = json.loads(body[:size])
        (given,), (wanted,) = request["inputs"], request["outputs"]
        assert (given["name"], given["datatype"], wanted["name"]) == ("x", "FP32", "y")
        sent = "binary_data_size" in given.get("parameters", {})
        self.server.kinds.append("binary" if sent else "json")
        flat = np.frombuffer(body[size:], "<f4") if sent else np.array(given["data"], "<f4")
        found = (flat.reshape(given["shape"]) * self.server.factor).astype("<f4")
        told: dict[str, Any] = {"name": "y", "datatype": "FP32", "shape": list(found.shape)}
        if not sent:
            told["data"] = found.ravel().tolist()
            return self.answer(200, json.dumps({"outputs": [told]}).encode())
        told["parameters"] = {"binary_data_size": found.nbytes}
        head = json.dumps({"model_name": "twice", "outputs": [told]}).encode()
        return self.answer(200, head + found.tobytes(), Inference_Header_Content_Length=str(len(head)))


@pytest.fixture
def server() -> Iterator[Model]:
    made = Model()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def local() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(small_model(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("binary", [True, False])
def test_tensors_travel_as_bytes_where_the_server_takes_them(server: Model, binary: bool) -> None:
    server.binary = binary
    client = Server(server.url)
    assert client.has("twice")
    assert not client.has("thrice")
    for _ in range(2):
        assert client.infer("twice", {"x": ROWS}, "y").tolist() == (2 * ROWS).tolist()
    assert server.kinds == ["binary" if binary else "json"] * 2
    assert server.asked.count(("GET", "/v2")) == 1


def test_a_session_asks_the_server_and_checks_it_once(server: Model, local: Any) -> None:
    class Counting:
        runs = 0

        def run(self, names: Any, feeds: Any) -> Any:
            Counting.runs += 1
            return local.run(names, feeds)

        def __getattr__(self, name: str) -> Any:
            return getattr(local, name)

    session = Placed(Server(server.url), "twice", Counting())
    for _ in range(3):
        assert session.run(None, {"x": ROWS})[0].tolist() == (2 * ROWS).tolist()
    assert (Counting.runs, len(server.kinds)) == (1, 3)
    assert session.get_inputs()[0].name == "x"


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_server_that_fails_is_left_alone_for_a_while(server: Model, local: Any, status: int) -> None:
    now = [0.0]
    session = Placed(Server(server.url), "twice", local, clock=lambda: now[0])
    server.status = status
    for _ in range(3):
        assert session.run(None, {"x": ROWS})[0].tolist() == (2 * ROWS).tolist()
    assert server.asked.count(("POST", "/v2/models/twice/infer")) == 1
    server.status, now[0] = 200, REST_S + 1
    session.run(None, {"x": ROWS})
    assert server.kinds == ["binary"]


@pytest.mark.parametrize("fault", ["refused", "other weights"])
def test_a_model_that_is_refused_or_another_one_is_not_asked_again(
    server: Model, local: Any, fault: str
) -> None:
    now = [0.0]
    session = Placed(Server(server.url), "twice", local, clock=lambda: now[0])
    server.status, server.factor = (400, 2.0) if fault == "refused" else (200, -2.0)
    for _ in range(2):
        assert session.run(None, {"x": ROWS})[0].tolist() == (2 * ROWS).tolist()
        now[0] += 10 * REST_S
    assert server.asked.count(("POST", "/v2/models/twice/infer")) == 1


def test_it_is_waited_for_no_longer_than_set_and_may_be_refused(server: Model, local: Any) -> None:
    server.slow_s = 0.5
    session = Placed(Server(server.url, 0.1), "twice", local, fallback="refuse")
    with pytest.raises(ServerFailed, match="Timeout"):
        session.run(None, {"x": ROWS})
    with pytest.raises(ServerFailed, match="a moment ago"):
        session.run(None, {"x": ROWS})


def test_a_server_that_is_away_and_settings_that_are_wrong(
    local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_URL", raising=False)
    assert placed("twice", local) is local
    monkeypatch.setenv("TRITON_URL", "http://127.0.0.1:1")
    assert placed("twice", local).run(None, {"x": ROWS})[0].tolist() == (2 * ROWS).tolist()
    monkeypatch.setenv("TRITON_FALLBACK", "maybe")
    with pytest.raises(ValueError, match="TRITON_FALLBACK is local or refuse, not 'maybe'"):
        placed("twice", local)
    with pytest.raises(ValueError, match="address of http or https, not 'grpc://triton'"):
        Server("grpc://triton")


def test_an_exported_encoder_asks_the_server(
    server: Model, local: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml.encoders import onnx as exported

    class Twice(exported.OnnxEncoder):
        def __init__(self, export: Any) -> None:
            self._session, self._inputs = local, {"x"}

        def encode(self, batch: Any) -> Any:
            return self._run({"x": batch})

    monkeypatch.setattr(exported, "find_export", lambda name: name)
    monkeypatch.setattr(exported, "open_export", Twice)
    monkeypatch.delenv("TRITON_URL", raising=False)
    assert exported.load("twice").encode(ROWS).tolist() == (2 * ROWS).tolist()
    assert server.asked == []
    monkeypatch.setenv("TRITON_URL", server.url)
    assert exported.load("twice").encode(ROWS).tolist() == (2 * ROWS).tolist()
    assert server.kinds == ["binary"]
