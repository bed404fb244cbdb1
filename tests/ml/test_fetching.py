"""A server that behaves like the hub, well or badly: what comes is what was announced, or nothing is left."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ml.hub import AddingError, Limits, Wanted, add_space
from ml.hub.fetching import Source, fetch

NAME, COMMIT = "someone/tiny-clip", "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"w" * 3000


class Hub:
    """Serves ``files`` at one commit; every field may be spoilt."""

    def __init__(self) -> None:
        self.files = {"config.json": b"{}", "tokenizer.json": b"[1]", "model.safetensors": WEIGHTS}
        self.files |= {
            "README.md": b"#",
            "evil.py": b"raise",
            "onnx/config.json": b"{}",
            "pytorch_model.bin": b"p",
        }
        self.sent: dict[str, bytes] = {}
        self.spoil: Callable[[dict[str, Any]], None] = lambda described: None
        self.asked: list[str] = []
        self.token = ""
        self.silent_at = ""
        self.released = threading.Event()

    def describe(self) -> dict[str, Any]:
        siblings = [_sibling(name, content) for name, content in self.files.items()]
        body = {"sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}
        self.spoil(body)
        return body

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(request.path)
        self.token = request.headers.get("Authorization", "")
        if self.silent_at and request.path.endswith(self.silent_at):
            self.released.wait(60)
        elif request.path == f"/api/models/{NAME}/revision/refs%2Fpr%2F1?blobs=true":
            _send(request, 200, json.dumps(self.describe()).encode())
        elif request.path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            # As the hub does with large files, which lie elsewhere.
            _send(request, 302, b"", request.path.replace("resolve", "elsewhere"))
        elif request.path.startswith(f"/{NAME}/elsewhere/{COMMIT}/"):
            name = request.path.rpartition("/")[2]
            _send(request, 200, self.sent.get(name, self.files[name]))
        else:
            _send(request, 404, b"")


def _sibling(name: str, content: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {"rfilename": name, "size": len(content)}
    if name.endswith(("safetensors", "bin")):
        return found | {"lfs": {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}}
    return found | {"blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()}


def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, to: str = "") -> None:
    request.send_response(status)
    if to:
        request.send_header("Location", to)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *rest: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield served
    served.released.set()
    server.shutdown()
    server.server_close()


def take(tmp_path: Path, **limits: Any) -> Source:
    return fetch(NAME, "refs/pr/1", tmp_path / "here", Limits(**limits), lambda line: None, lambda size: None)


def test_only_what_is_needed_comes_at_one_commit_with_its_digests(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    source = take(tmp_path)
    assert (source.name, source.commit, source.licence) == (NAME, COMMIT, "mit")
    assert source.files["model.safetensors"] == {"sha256": hashlib.sha256(WEIGHTS).hexdigest(), "bytes": 3000}
    assert {path.name for path in (tmp_path / "here").iterdir()} == set(source.files)
    assert set(source.files) == {"config.json", "tokenizer.json", "model.safetensors"}
    assert hub.token == "Bearer hf_secret"
    assert all(COMMIT in path for path in hub.asked[1:])


def test_weights_in_parts(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    parts = {f"model-0000{n}-of-00002.safetensors": bytes([n]) * 50 for n in (1, 2)}
    index = {"weight_map": dict(zip("abc", [*parts, *parts][:3], strict=True))}
    hub.files |= parts | {"model.safetensors.index.json": json.dumps(index).encode()}
    hub.files["model-00009-of-00009.safetensors"] = b"of another model"
    source = take(tmp_path)
    assert {name for name in source.files if name.endswith("safetensors")} == set(parts)
    assert source.weight_bytes == 100
    hub.files["model.safetensors.index.json"] = json.dumps({"weight_map": {"a": "../../x"}}).encode()
    with pytest.raises(AddingError, match=r"names '../../x', which is not there"):
        take(tmp_path / "again")


def test_pickled_weights_are_never_fetched(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    with pytest.raises(AddingError, match=r"pickled \(pytorch_model.bin\)"):
        take(tmp_path)
    assert not [path for path in hub.asked if path.endswith((".bin", ".py"))]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_other_bytes_than_were_announced(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.sent[name] = b"x" * len(hub.files[name])
    with pytest.raises(AddingError, match=f"{name} is not the file that the hub announced"):
        take(tmp_path)


def test_more_and_fewer_bytes(hub: Hub, tmp_path: Path) -> None:
    hub.sent["model.safetensors"] = WEIGHTS + b"x"
    with pytest.raises(AddingError, match=r"more of model\.safetensors"):
        take(tmp_path)
    hub.sent["model.safetensors"] = WEIGHTS[:-1]
    with pytest.raises(AddingError, match="not the file"):
        take(tmp_path / "again")


def test_too_large(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(AddingError, match="--max-gb"):
        take(tmp_path, total_bytes=2999)
    hub.files["tokenizer.json"] = b"x" * 2000
    with pytest.raises(AddingError, match="too large to be one"):
        take(tmp_path / "again", small_bytes=1999)


@pytest.mark.parametrize("where", ["blobs=true", "config.json", "model.safetensors"])
def test_a_hub_that_hangs_ends_with_an_error_and_leaves_nothing(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("CROSSLIGHT_MODELS", str(tmp_path))
    hub.silent_at = where
    with pytest.raises(AddingError, match="does not answer"):
        add_space(Wanted(f"hf:{NAME}", revision="refs/pr/1", limits=Limits(silence_s=0.2)), lambda line: None)
    assert {path.name for path in (tmp_path / "spaces").iterdir()} == {".add.lock"}


def test_a_hub_that_is_too_slow(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(AddingError, match="too slow"):
        take(tmp_path, total_s=0.0)


def test_a_hub_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(AddingError, match="name a folder"):
        take(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AddingError, match="HF_HUB_OFFLINE"):
        take(tmp_path)


def test_what_is_not_there(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(AddingError, match="private or gated"):
        fetch(NAME, "nowhere", tmp_path / "x", Limits(), lambda line: None, lambda size: None)
    for name in ("a/b/c", "../x", "a b"):
        with pytest.raises(AddingError, match="no name of a repository"):
            fetch(name, "main", tmp_path / "x", Limits(), lambda line: None, lambda size: None)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda described: described.pop("siblings"),
        lambda described: described.update(sha="main"),
        lambda described: described.update(siblings=[{"size": 1}]),
    ],
)
def test_answers_that_make_no_sense(hub: Hub, tmp_path: Path, spoil: Any) -> None:
    hub.spoil = spoil
    with pytest.raises(AddingError, match=r"cannot be read|names no commit"):
        take(tmp_path)
