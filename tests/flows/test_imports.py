"""Imports on the running stack: killed in the middle, beside a neighbour, by the operator's command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.client import Client
from tests.flows.pictures import jpeg
from tests.waiting import until

pytestmark = [pytest.mark.stack, pytest.mark.slow]


def _table(rows: int) -> bytes:
    lines = (f"s{n},a product number {n} with some words about it,{n}\n" for n in range(rows))
    return ("sku,description,price\n" + "".join(lines)).encode()


def _start(client: Client, dataset: str, name: str, content: bytes) -> dict:
    answer = client.json("POST", f"/datasets/{dataset}/imports", 202, files={"file": (name, content)})
    return answer["job"]


def test_a_worker_killed_in_the_middle_of_an_import_loses_nothing_and_repeats_nothing(stack, client) -> None:
    dataset, rows = client.dataset("killed import"), 600
    job = _start(client, dataset, "shop.csv", _table(rows))
    until(lambda: client.json("GET", f"/jobs/{job['id']}")["progress"]["done"] >= 200)
    stack.wait_for_successor("worker-bulk", stack.kill("worker-bulk"))
    ended = client.wait(job, 600)
    assert (ended["state"], ended["result"]["imported"], ended["result"]["duplicate"]) == (
        "succeeded",
        rows,
        0,
    )
    assert ended["result"]["failed"] == 0
    quotas = client.json("GET", "/me")["quotas"]
    assert (quotas["assets"]["used"], quotas["vectors"]["used"]) == (rows, rows)
    answer = client.search(text="product number 599", filter={"price": {"gte": 590}}, top_k=20)
    assert answer["total_candidates"] == 10
    assert answer["index"]["size"] == rows


def test_the_operator_imports_a_folder(stack, client, manage, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "boxes.jpg").write_bytes(jpeg(77))
    (tmp_path / "note.txt").write_text("a note about boxes")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    slug = client.json("GET", "/me")["tenant"]["slug"]
    printed = manage("import_folder", slug, "from disk", str(tmp_path))
    assert "2 imported, 0 duplicate, 1 failed" in printed
    assert "broken.png: corrupt:" in printed
    again = manage("import_folder", slug, "from disk", str(tmp_path))
    assert "0 imported, 2 duplicate, 1 failed" in again
    assert len(client.found(text="boxes")) == 2
