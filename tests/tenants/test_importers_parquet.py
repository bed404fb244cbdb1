"""Parquet through its limited child process."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import signal
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from tenants.datasets.importers import limits, open_items, preview
from tenants.datasets.importers.content import open_content
from tenants.datasets.importers.parquet import _LIMITS, Parquet
from tenants.errors import Invalid, Unavailable
from tests.tenants.importing import read, read_files


def parquet(tmp_path: Path, columns: Any, **options: Any) -> Path:
    path = tmp_path / "table.parquet"
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **options)
    return path


def test_values_of_every_kind(tmp_path) -> None:
    path = parquet(
        tmp_path,
        {
            "id": pa.array([1, 2]),
            "title": pa.array(["a", "b"]).dictionary_encode(),
            "price": pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.00")]),
            "weight": pa.array([0.5, float("nan")]),
            "day": pa.array([dt.date(2026, 1, 1), None]),
            "at": pa.array([dt.datetime(2026, 1, 1, tzinfo=dt.UTC)] * 2),
            "nanos": pa.array([1, 1_700_000_000_000_000_001], pa.timestamp("ns")),
            "size": pa.array([{"w": 1, "h": 2}, None]),
            "deep": pa.array([{"a": {"b": [1]}}, None]),
            "tags": pa.array([["x", "y"], []]),
            "pairs": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
        },
    )
    first, second = read(path, "parquet")
    assert (first.row, first.name, first.external_id, first.text) == (1, "row 1", "1", "a")
    assert first.metadata == {
        "price": 1.5,
        "weight": 0.5,
        "day": "2026-01-01",
        "at": "2026-01-01T00:00:00+00:00",
        "nanos": "1970-01-01T00:00:00",
        "size.w": 1,
        "size.h": 2,
        "deep": {"a": {"b": [1]}},
        "tags": ["x", "y"],
        "pairs": [["k", 1]],
    }
    assert (
        second.metadata["price"] == 2 and "weight" not in second.metadata and "size.w" not in second.metadata
    )
    types = {column.name: column.guessed_type for column in preview(path, "parquet").columns}
    assert (types["price"], types["at"], types["size.w"], types["tags"]) == (
        "number",
        "time",
        "number",
        "nested",
    )


def test_files_in_cells(tmp_path) -> None:
    """As Hugging Face's datasets hold pictures: {bytes, path}."""
    images = [
        {"bytes": b"one", "path": "a.jpg"},
        None,
        {"bytes": None, "path": "b.jpg"},
        {"bytes": b"", "path": ""},
    ]
    path = parquet(tmp_path, {"image": images, "caption": ["x", "y", None, None], "raw": [b"r"] * 4})
    assert preview(path, "parquet").mapping.roles == (None, "caption", "image")
    assert read_files(path, "parquet", tmp_path) == [
        ("row 1", b"one"),
        ("row 2", None),
        ("row 3", "The row has neither a text nor a file."),
        ("row 4", "The row has neither a text nor a file."),
    ]
    assert [value for _, value in read_files(path, "parquet", tmp_path, mapping={"file": "raw"})] == [
        b"r"
    ] * 4
    assert read(path, "parquet")[0].metadata == {}


def test_reading_goes_on_after_a_row(tmp_path) -> None:
    path = parquet(tmp_path, {"text": [f"t{n}" for n in range(100)]}, row_group_size=7)
    whole = read(path, "parquet")
    assert [item.row for item in whole] == list(range(1, 101))
    for after in (6, 7, 50, 99, 100):
        assert read(path, "parquet", after=after) == whole[after:]
    assert preview(path, "parquet").total == 100


def test_a_file_in_a_cell_has_a_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(_LIMITS, "file", 1000)
    path = parquet(tmp_path, {"image": [b"x" * 1001, b"y" * 1000]})
    assert read_files(path, "parquet", tmp_path) == [
        ("row 1", "The file in it is larger than 1,000 bytes."),
        ("row 2", b"y" * 1000),
    ]


@pytest.mark.parametrize("damage", ["footer", "cut", "magic", "no rows"])
def test_a_broken_file_is_refused_at_once(tmp_path, damage) -> None:
    content = parquet(tmp_path, {"text": ["a"] * 1000}).read_bytes()
    broken = {
        "footer": content[:-40] + b"\xff" * 32 + content[-8:],
        "cut": content[: len(content) // 2],
        "magic": b"PAR1" + b"\0" * 100,
        "no rows": b"PAR1PAR1",
    }[damage]
    path = tmp_path / "broken.parquet"
    path.write_bytes(broken)
    with pytest.raises(Invalid, match="damaged or hostile"):
        read(path, "parquet")


def test_a_name_that_cannot_be_stored_is_refused(tmp_path) -> None:
    with pytest.raises(Invalid, match="NUL"):
        read(parquet(tmp_path, {"\x00": ["some words"]}), "parquet")


def test_a_damaged_part_costs_its_rows_only(tmp_path) -> None:
    words = [f"{n} {os.urandom(20).hex()}" for n in range(300)]
    path = parquet(
        tmp_path, {"text": words}, row_group_size=100, write_page_checksum=True, use_dictionary=False
    )
    place = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    content = bytearray(path.read_bytes())
    content[place + 500 : place + 600] = b"\xff" * 100
    path.write_bytes(content)
    items = read(path, "parquet")
    assert [item.text for item in items if not item.error] == words[:100] + words[200:]
    (bad,) = [item for item in items if item.error]
    assert (bad.row, bad.name) == (101, "rows 101 to 200")
    assert bad.error is not None and bad.error.startswith("This part of the file cannot be read:")


def test_a_bomb_dies_in_the_child(tmp_path, monkeypatch) -> None:
    """Three kilobytes that are a text of 64 MiB; the limit of memory is small here to be quick."""
    monkeypatch.setitem(_LIMITS, "memory", 300 << 20)
    options = {"compression": "zstd", "use_dictionary": False, "write_statistics": False}
    path = parquet(tmp_path, {"text": ["x" * (64 << 20)]}, **options)
    assert path.stat().st_size < 10_000
    (item,) = read(path, "parquet", mapping={"text": "text"})
    assert item.error == "Reading it needs more memory than allowed."


def test_values_that_cannot_be_read_cost_their_row_only(tmp_path) -> None:
    text = ["a", "b", "x" * (limits.CELL + 1), "d"]
    at = pa.array([0, 1 << 55, 0, 0], pa.timestamp("ms"))
    items = read(parquet(tmp_path, {"text": text, "at": at}), "parquet")
    assert [item.text for item in items] == ["a", "", "", "d"]
    assert items[1].error is not None and items[1].error.startswith("A value in it cannot be read:")
    assert items[2].error == 'The cell of "text" holds more than 10,485,760 characters.'


def test_the_child_sees_no_secrets_and_cannot_write(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SECRET_KEY", "do-not-tell")
    with open_content(parquet(tmp_path, {"text": ["a"]})) as content:
        table = Parquet(content, {})
        process = table._idle._process
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        state = Path(f"/proc/{process.pid}/limits").read_text()
        table.close()
        assert process.returncode == -signal.SIGKILL
    assert b"do-not-tell" not in environment and b"DATABASE_URL" not in environment
    limited = {line[:26].strip(): line[26:47].strip() for line in state.splitlines()}
    assert limited["Max file size"] == "0"
    assert limited["Max address space"] == str(limits.PARQUET_MEMORY)


def test_a_child_that_somebody_ends_is_no_fault_of_the_file(tmp_path) -> None:
    path = parquet(tmp_path, {"text": ["a"]})
    with open_content(path) as content, closing(Parquet(content, {})) as table:
        table._idle._process.kill()
        with pytest.raises(Unavailable):
            list(table.records())


def test_an_answer_that_is_none_is_not_believed(tmp_path) -> None:
    """A child that a hostile file has taken over says what it likes."""
    with open_content(parquet(tmp_path, {"text": ["a"]})) as content:
        for answer in (
            b"no json\n",
            b"[]\n",
            b'{"row": "x"}\n',
            json.dumps({"row": 1, "values": {}, "files": {}, "size": 1 << 40}).encode() + b"\n",
            b"[" * 100_000 + b"\n",
        ):
            with closing(Parquet(content, {})) as table:
                table._idle._early += answer
                (record,) = table.records()
            assert record.error == "The reading process gave no proper answer."


def test_leaving_early_leaves_no_process(tmp_path) -> None:
    path = parquet(tmp_path, {"text": ["a"] * 50_000})
    with open_items(path, "parquet") as items:
        assert next(items).text == "a"
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{one}/cmdline").read_bytes() for one in children]
    assert not [name for name in names if b"parquet_child" in name]
