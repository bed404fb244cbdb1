"""Memory stays flat however many rows there are."""

from __future__ import annotations

import gc
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from tenants.datasets.importers import open_items

FEW, MANY = 10_000, 100_000
TEXT = "a red bicycle with a basket, number {}"


def csv(path: Path, count: int) -> None:
    path.write_text("id,text\n" + "".join(f'{n},"{TEXT.format(n)}"\n' for n in range(count)))


def jsonl(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps({"id": n, "text": TEXT.format(n)}) + "\n" for n in range(count)))


def table(path: Path, count: int) -> None:
    columns = {"id": range(count), "text": [TEXT.format(n) for n in range(count)]}
    parquet.write_table(pa.table(columns), path, row_group_size=10_000)


def tar(path: Path, count: int) -> None:
    with path.open("wb") as stream:
        for n in range(count // 4):
            info = tarfile.TarInfo(f"{n:08}.jpg")
            stream.write(info.tobuf())
        stream.write(b"\0" * 1024)


def peak_of(path: Path, kind: str) -> tuple[int, int]:
    """Items, and KiB by which the resident memory rose above where it stood."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = _high_water()
    with open_items(path, kind) as items:
        count = sum(item.error is None for item in items)
    return count, _high_water() - before


def _high_water() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


@pytest.mark.parametrize(
    ("kind", "write"), [("csv", csv), ("jsonl", jsonl), ("parquet", table), ("tar", tar)]
)
@pytest.mark.slow
def test_memory_is_flat(tmp_path, kind: str, write: Callable[[Path, int], None]) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    write(few, FEW)
    write(many, MANY)
    peak_of(few, kind)  # what is loaded once
    (small, low), (large, high) = peak_of(few, kind), peak_of(many, kind)
    assert large == 10 * small
    assert high < low + 4096, f"{low} KiB at {small} rows, {high} KiB at {large}"


@pytest.mark.slow
def test_a_zip_costs_some_bytes_an_entry(tmp_path) -> None:
    """Its directory is read from the disk; what is kept are a few numbers each (and lists while sorting them)."""
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(20_000):
            archive.writestr(zipfile.ZipInfo(f"folder/with/a/longish/path/{n}.jpg"), b"")
    peak_of(path, "zip")
    count, peak = peak_of(path, "zip")
    assert count == 20_000
    assert peak * 1024 < 300 * count, f"{peak} KiB"
