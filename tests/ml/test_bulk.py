"""What the actors of `ml.bulk` do with one block, without a cluster; with one: tests/hosts/test_ray.py."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ml.alignment.space import SHIPPED, JointSpace
from ml.bulk import DAMAGED, GONE, MANIFEST, PART, Decode, Encode, Task
from tests.flows.pictures import jpeg
from tests.servers import serve

MODEL = "prior:1"


def row(id: str, kind: str, source: object, length: int, captions: tuple[str, ...] = ()) -> dict[str, Any]:
    named = {"id": id, "kind": kind, "source": str(source), "bytes": length}
    return {**named, "captions": list(captions)}


def decoded(*rows: dict[str, Any]) -> pa.Table:
    return Decode(1 << 30, 20.0)(pa.Table.from_pylist(list(rows), schema=MANIFEST))


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def put(id: str, kind: str, content: bytes, **more: Any) -> dict[str, Any]:
        (tmp_path / id).write_bytes(content)
        return row(id, kind, tmp_path / id, more.pop("length", len(content)), **more)

    return put


def test_texts_and_pictures_become_vectors_of_the_space(put: Callable[..., Any], models: Path) -> None:
    long = "One sentence of many. " * 100
    rows = put("a", "text", long.encode()), put("b", "image", jpeg(1), captions=("a red thing", "seen twice"))
    found = {one["id"]: one for one in Encode(MODEL, {})(decoded(*rows)).to_pylist()}
    space = JointSpace.load()
    assert [one["modality"] for one in found["b"]["vectors"]] == ["image", "text", "text"]
    assert [one["segment"] for one in found["b"]["vectors"]] == [None, None, '{"caption": 1}']
    segments = [json.loads(one["segment"]) for one in found["a"]["vectors"]]
    assert segments[0]["start_char"] == 0
    assert segments[-1]["end_char"] == len(long)
    values = np.frombuffer(found["b"]["vectors"][1]["data"], "<f4")
    expected = space.as_asset(space.embed_texts(["a red thing"]))[0]
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert all(one["cpu_s"] > 0 and not one["error"] for one in found.values())


def test_a_space_that_does_not_ship_comes_as_files(put: Callable[..., Any], models: Path) -> None:
    files = {path.name: path.read_bytes() for path in SHIPPED.iterdir()}
    block = decoded(put("a", "text", b"an apple"))
    own, shipped = Encode("", files)(block), Encode(MODEL, {})(block)
    assert own.column("vectors") == shipped.column("vectors")
    assert own.schema == PART


def test_what_is_wrong_with_one_row_is_its_own(put: Callable[..., Any], tmp_path: Path, models: Path) -> None:
    rows = (
        put("broken", "image", jpeg(2)[:100]),
        put("longer", "text", b"more than was stored", length=4),
        put("shorter", "text", b"less", length=40),
        put("latin", "text", b"caf\xe9"),
        row("gone", "image", tmp_path / "nowhere", 10),
        put("good", "text", b"an apple"),
    )
    block = decoded(*rows)
    errors = dict(zip(block.column("id").to_pylist(), block.column("error").to_pylist(), strict=True))
    assert errors["broken"].startswith("corrupt: ")
    assert (errors["longer"], errors["shorter"], errors["gone"]) == (DAMAGED, DAMAGED, GONE)
    assert errors["latin"].startswith("internal error")
    assert errors["good"] == ""
    counts = {one["id"]: len(one["vectors"]) for one in Encode(MODEL, {})(block).to_pylist()}
    assert counts == dict.fromkeys(errors, 0) | {"good": 1}


def test_a_picture_is_decoded_within_the_bounds_of_the_workers(put: Callable[..., Any]) -> None:
    sink = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(sink, "PNG")
    block = decoded(put("bomb", "image", sink.getvalue()))
    assert block.column("error").to_pylist()[0].startswith("too-large: ")
    assert block.column("pixels").null_count == 1


class Storage(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        status, body = {"/there": (200, b"an apple"), "/gone": (404, b""), "/away": (503, b"")}[self.path]
        self.send_response(status)
        # More than is announced is never read.
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def storage() -> Iterator[str]:
    with serve(HTTPServer(("127.0.0.1", 0), Storage)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_addresses_are_read_and_a_storage_that_is_away_is_no_rows_fault(storage: str) -> None:
    block = decoded(row("there", "text", f"{storage}/there", 8), row("gone", "text", f"{storage}/gone", 8))
    assert block.column("error").to_pylist() == ["", GONE]
    assert block.column("texts").to_pylist()[0] == [{"text": "an apple", "segment": None}]
    with pytest.raises(OSError, match="the storage answered 503"):
        decoded(row("away", "text", f"{storage}/away", 8))


def test_a_task_is_read_as_it_was_written(tmp_path: Path) -> None:
    task = Task("127.0.0.1:6379", MODEL, 1 << 30, 20.0)
    task.write(tmp_path)
    assert Task.read(tmp_path) == task
