"""What an installation of a size takes: memory, machines and money (`make bench-capacity`). It measures nothing.

`VECTORS` (1e9) of `DIMENSION` numbers (576, those of open-2); `TENANTS` (10000), whose sizes fall by Zipf's law
(`ZIPF_S`, 1); `CHANGED` (0.01, the share of vectors that changes in a day); `SEARCHES` (1000 a second). Writes
var/bench/capacity.json. Constants are measured (printed by another command of this repository), estimated, or assumed,
as prices are. Without embedding, audits and originals.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from math import ceil
from typing import NamedTuple

from _report import Line, Report

GB = 1e9

# Bytes of a vector beside its numbers, which take four bytes each, and one in an index. Measured with 256 of them:
# files by `make bench-search`, Postgres once by the sizes of its relations (with the asset, its file record, a facet,
# and their indexes).
ARRAY_B, INDEX_B, COLUMNS_B, POSTGRES_B = 276, 14, 6, 1_676
SEARCH_S = 0.004  # of a core, all around it included
BUILD_S = 2 * 143e-6  # of a core, a vector, while it is searched
UPKEEP_S = 0.028  # of a core, a tenant a round (`make test-hosts`, test_upkeep_rate); 0.055 on a busy machine
ROUND_S = 300
FLAT_MAX, DELTA_MAX, ENGINE_ABOVE = 20_000, 100_000, 5_000_000
BUILT_EVERY_DAYS = 15

# Estimated. Milvus keeps a byte a number in memory (`ivf-sq8`), and on its disks half precision, too.
MILVUS_B, MILVUS_DISK_B = 44, 32
USED = 0.75  # of a machine's memory and disk
FILES_KEPT = 2  # a generation and the one before, in the storage
COPIES = 2  # hosts that keep a tenant's files warm


@dataclass(frozen=True)
class Machine:
    """`dollars` a month: a round price of a rented machine, assumed, which nobody looked up."""

    cores: int
    memory_gb: int
    disk_gb: int
    dollars: int


SEARCHER, WORKER = Machine(16, 128, 3_750, 1_000), Machine(16, 32, 100, 500)
DATABASE, SMALL = Machine(16, 128, 0, 740), Machine(4, 16, 50, 140)
BLOCK_DOLLARS, STORAGE_DOLLARS = 0.08, 0.023  # a GB and month: a network disk, an S3 store


class Bytes(NamedTuple):
    """Of a vector, by where it lies."""

    array: int
    index: int
    files: int
    postgres: int
    milvus: int
    milvus_disk: int


def bytes_of(numbers: int) -> Bytes:
    index = numbers + INDEX_B
    return Bytes(
        array=4 * numbers + ARRAY_B,
        index=index,
        files=4 * numbers + index + COLUMNS_B,
        postgres=4 * numbers + POSTGRES_B,
        milvus=numbers + MILVUS_B,
        milvus_disk=3 * numbers + MILVUS_DISK_B,
    )


@dataclass(frozen=True)
class Tenants:
    """Sizes of all tenants, the largest first, in vectors."""

    sizes: list[float]

    def total(self, above: float = 0, to: float = float("inf")) -> float:
        return sum(size for size in self.sizes if above < size <= to)

    def count(self, above: float = 0, to: float = float("inf")) -> int:
        return sum(above < size <= to for size in self.sizes)


def zipf(vectors: float, tenants: int, s: float) -> Tenants:
    shares = [rank**-s for rank in range(1, tenants + 1)]
    whole = sum(shares)
    return Tenants([vectors * share / whole for share in shares])


@dataclass(frozen=True)
class Demand:
    tenants: Tenants
    of: Bytes
    changed: float
    searches: float

    def builds_cores(self, upto: float) -> float:
        """Cores that build without a pause: each tenant's whole index whenever its newer part is full, or is old."""
        seconds = 0.0
        for size in self.tenants.sizes:
            if FLAT_MAX < size <= upto:
                a_day = max(size * self.changed / DELTA_MAX, 1 / BUILT_EVERY_DAYS)
                seconds += a_day * size * BUILD_S
        return seconds / 86_400

    def upkeep_cores(self) -> float:
        return len(self.tenants.sizes) * UPKEEP_S / ROUND_S


@dataclass(frozen=True)
class Layout:
    """Whether all files are in memory or the index alone, and from which size on Milvus holds a tenant."""

    name: str
    all_hot: bool
    engine_above: float


LAYOUTS = (
    Layout("all hot", True, float("inf")),
    Layout("index hot, vectors on local disks", False, float("inf")),
    Layout("the same, largest tenants in Milvus", False, ENGINE_ABOVE),
)


def plan(demand: Demand, layout: Layout) -> dict[str, float]:
    """Machines and dollars a month of a layout."""
    sizes, of = demand.tenants, demand.of
    hot = of.files if layout.all_hot else of.index
    small, ours = sizes.total(to=FLAT_MAX), sizes.total(FLAT_MAX, layout.engine_above)
    theirs = sizes.total(max(FLAT_MAX, layout.engine_above))
    memory = COPIES * (small * of.array + ours * hot) / GB
    disk = COPIES * ours * of.files / GB
    needed = max(
        memory / (SEARCHER.memory_gb * USED),
        disk / (SEARCHER.disk_gb * USED),
        demand.searches * SEARCH_S / (SEARCHER.cores * USED),
    )
    # One more than it takes: a machine that fails leaves the others as full as they may be.
    searchers = ceil(needed) + 1
    working = demand.builds_cores(layout.engine_above) + demand.upkeep_cores()
    workers = ceil(working / (WORKER.cores * USED)) + 1
    milvus = ceil(theirs * of.milvus / GB / (SEARCHER.memory_gb * USED)) + 1 if theirs else 0
    postgres_gb = sum(sizes.sizes) * of.postgres / GB
    stored_gb = (FILES_KEPT * ours * of.files + theirs * of.milvus_disk) / GB
    dollars = (
        (searchers + milvus) * SEARCHER.dollars
        + workers * WORKER.dollars
        + 3 * (DATABASE.dollars + postgres_gb / USED * BLOCK_DOLLARS)
        # Proxies, RabbitMQ and etcd, Valkey.
        + 8 * SMALL.dollars
        + stored_gb * STORAGE_DOLLARS
    )
    largest = max((size for size in sizes.sizes if size <= layout.engine_above), default=0.0)
    return {
        "memory a million vectors, GB": hot * 1e6 / GB,
        "memory of the largest on one machine, GB": largest * hot / GB,
        "memory for indexes, two copies, GB": memory,
        "on local disks, two copies, GB": disk,
        "web machines": searchers,
        "Milvus machines": milvus,
        "cores that build and look after": working,
        "worker machines": workers,
        "in Postgres, each of three, GB": postgres_gb,
        "in the storage without originals, GB": stored_gb,
        "dollars a month": dollars,
        "dollars a month, a million vectors": dollars / (sum(sizes.sizes) / 1e6),
    }


def main() -> int:
    report = Report("capacity")
    return report.finish({"plans": report.run("capacity", told)})


def number(name: str, default: str) -> float:
    try:
        found = float(os.environ.get(name, default))
    except ValueError:
        found = 0.0
    if not 0 < found <= 1e12:
        sys.exit(f"error: {name} must be a number above 0, such as {default}")
    return found


def told() -> dict[str, dict[str, float]]:
    vectors = number("VECTORS", "1e9")
    sizes = zipf(vectors, int(number("TENANTS", "10000")), number("ZIPF_S", "1"))
    of = bytes_of(int(number("DIMENSION", "576")))
    demand = Demand(sizes, of, number("CHANGED", "0.01"), number("SEARCHES", "1000"))
    for low, high in ((0, FLAT_MAX), (FLAT_MAX, ENGINE_ABOVE), (ENGINE_ABOVE, float("inf"))):
        what = (
            f"tenants of {low:,} to {high:,.0f} vectors"
            if high < vectors
            else f"tenants above {low:,} vectors"
        )
        print(Line(f"{what}: {sizes.count(low, high):,}", sizes.total(low, high) / 1e6, "million").shown())
    print(Line("the largest", sizes.sizes[0] / 1e6, "million").shown())
    plans = {layout.name: plan(demand, layout) for layout in LAYOUTS}
    for name, figures in plans.items():
        print(f"\n{name}")
        for what, value in figures.items():
            print(Line(f"  {what}", round(value, 2)).shown())
    return plans


if __name__ == "__main__":
    raise SystemExit(main())
