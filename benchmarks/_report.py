"""What all benchmarks share: toy size, the head that says where figures come from, promises, and the exit status.

`BENCH=toy` runs every section on next to nothing, in seconds, as the tests do: then figures that depend on the size are
printed and promise nothing. A section that breaks off makes a benchmark end with 1 in either case, a promise that is
missed beyond noise in a whole run.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parent.parent
# For `research`, which is no part of what is installed. Last, as a folder there is called as a module of Python's.
sys.path.append(str(ROOT))
OUT = Path(os.environ.get("DATA_DIR", ROOT / "var")).resolve() / "bench"
TOY = os.environ.get("BENCH") == "toy"
#: By which share a figure may miss its promise before that counts: what runs of one revision differ by. Shares, such as
#: recall, hardly differ.
NOISE, NOISE_OF_SHARES = 0.15, 0.01
#: Variables that change what a benchmark measures.
CHOICES = (
    *(
        "BENCH",
        "PARTS",
        "SECTIONS",
        "FRESH",
        "VECTORS",
        "SMALL",
        "QUERIES",
        "TENANTS",
        "ZIPF",
        "ZIPF_S",
        "PEERS",
    ),
    *(
        "BASE",
        "ROWS",
        "COUNT",
        "ASSETS",
        "JOBS",
        "AUDITS",
        "CROSSLIGHT_DATA",
        "DEVICE",
        "CHANGED",
        "DIMENSION",
        "SEARCHES",
        "MINUTES",
        "HOURS",
    ),
)

#: Of each benchmark, lines by a part of `section: line`, whose target is a wish that the docs say is not reached. They
#: are shown as missed, and are no promise; one that comes to be kept is told, to be taken off.
NOT_REACHED = {
    # docs/search.md: four to five in ten searches for what photographs show find nothing at the line.
    "relevance": ("something where there is something",),
    "retrieval": ("something where there is something",),
    # docs/search.md: a million vectors of 576 numbers; pgvector is a little faster; first queries, one in a hundred.
    "search": ("vectors by vector, top 10, p50", "million: … p99", "pgvector", "tenants: … p99"),
    # docs/models/gate.md; docs/learning/experiments-align.md: emoji in a style never trained on, and the space without
    # pairs beside CCA; docs/learning/training.md: tiny steps.
    "learning": ("best fixed weights", "align: emoji", "default space", "heads, 6,000 pairs, streamed"),
    # docs/auditing/known-content.md; docs/models/abuse.md: tweets found by slurs, unknown topics, the cost.
    # docs/auditing/review.md: where most flags are confirmed no threshold halves what people look at.
    "audit": (
        "fashion_products: others taken for listed ones",
        "davidson_hate abuse: macro-F1, detector as it ships",
        "by meaning, trained without it",
        "texts a second and core, all three",
        "review load at equal misses",
    ),
    # docs/search.md: a picture has to be encoded first.
    "moments": ("by its picture, p95",),
    # docs/models/drawing.md: 7 of 300.
    "generation": ("held out: within RMSE",),
}

T = TypeVar("T")


def sized(full: T, toy: T) -> T:
    """A size: the whole one, or that of a toy."""
    return toy if TOY else full


@dataclass
class Line:
    """One row of a table. `cpu_ms` is the web process's, a search; a line without target only tells.

    `missed`: by more than noise. None: as `met` says.
    """

    what: str
    value: float | str
    unit: str = ""
    target: str = ""
    met: bool | None = None
    cpu_ms: float | None = None
    missed: bool | None = None

    @property
    def broken(self) -> bool:
        """The promise is not kept: what lies within noise of it is."""
        return self.met is False if self.missed is None else self.missed

    def shown(self) -> str:
        verdict = "" if self.met is None else "met" if self.met else "MISSED" if self.broken else "noise"
        value = (
            f"{self.value:,.3f}".rstrip("0").rstrip(".") if isinstance(self.value, float) else str(self.value)
        )
        cpu = "" if self.cpu_ms is None else f"{self.cpu_ms:.2f}"
        return f"{self.what:58}{value:>14} {self.unit:8}{self.target:>12}  {verdict:7}{cpu:>8}"


def at_most(
    what: str, value: float, limit: float, unit: str = "ms", cpu_ms: float | None = None, noise: float = NOISE
) -> Line:
    missed = value > limit * (1 + noise)
    return Line(what, round(value, 3), unit, f"<= {limit:g}", value <= limit, cpu_ms, missed)


def at_least(
    what: str,
    value: float,
    limit: float,
    unit: str = "",
    cpu_ms: float | None = None,
    noise: float | None = None,
) -> Line:
    share = NOISE_OF_SHARES if limit <= 1 and not unit else NOISE
    missed = value < limit * (1 - (share if noise is None else noise))
    return Line(what, round(value, 4), unit, f">= {limit:g}", value >= limit, cpu_ms, missed)


def machine() -> str:
    """The processor, cores, memory, system and Python, in a line."""
    name = platform.processor() or platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    memory = next((int(line.split()[1]) / 2**20 for line in _lines("/proc/meminfo")), 0.0)
    cores = len(os.sched_getaffinity(0))
    system = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return f"{name}, {cores} cores, {memory:.0f} GiB, {system}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


@cache
def revision() -> str:
    """The commit, with a plus where files differ from it; unknown outside of a checkout."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def command(name: str) -> str:
    chosen = [f"{one}={os.environ[one]}" for one in CHOICES if os.environ.get(one)]
    return " ".join([*chosen, f"make bench-{name}"])


@dataclass
class Report:
    """A run of one benchmark: its head, what broke off, which promises were missed, which sets were absent."""

    name: str
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    broken: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        OUT.mkdir(parents=True, exist_ok=True)
        skipped.clear()
        size = ", at toy size: no figure means anything" if TOY else ""
        print(
            f"{command(self.name)}{size}\n  {machine()}\n  revision {revision()}, {self.begun:%Y-%m-%d %H:%M} UTC"
        )

    @property
    def head(self) -> dict[str, Any]:
        return {
            "machine": machine(),
            "revision": revision(),
            "command": command(self.name),
            "begun": self.begun.isoformat(timespec="seconds"),
            "toy": TOY,
        }

    def run(self, what: str, section: Callable[[], T]) -> T | None:
        """What a section returns; None where it breaks off, which is shown and counted."""
        try:
            return section()
        except Exception as error:
            traceback.print_exc()
            self.broke_off(what, error)
            return None

    def broke_off(self, what: str, error: Exception) -> str:
        told = f"broke off: {type(error).__name__}: {error}"[:200]
        self.broken.append(f"{what} {told}")
        print(f"{what} {told}")
        return told

    def judge(self, what: str, lines: Iterable[Line]) -> None:
        for line in lines:
            told = f"{what}: {line.what.strip()}"
            if not any(part in told for part in NOT_REACHED.get(self.name, ())):
                self.missed += [told] if line.broken else []
            elif line.met and not TOY:
                print(f"reached by now, so that it can be promised (_report.NOT_REACHED): {told}")

    def promise(self, what: str, kept: bool) -> None:
        """One that was judged elsewhere, noise included."""
        if not kept:
            self.missed.append(what)

    def finish(self, figures: dict[str, Any]) -> int:
        """Write `<name>.json` and say how it ended; returns the exit status."""
        path = OUT / f"{self.name}.json"
        told = {"run": self.head, "broke_off": self.broken, "missed": self.missed, "skipped": sorted(skipped)}
        path.write_text(json.dumps({**told, **figures}, indent=1, default=float, ensure_ascii=False) + "\n")
        for title, some in (("absent, and skipped", sorted(skipped)), ("broke off", self.broken)):
            if some:
                print(f"\n{title}:" + "".join(f"\n  {one}" for one in some))
        if self.missed:
            note = " (at toy size that says nothing)" if TOY else ""
            print(f"\nmissed{note}:" + "".join(f"\n  {one}" for one in self.missed))
        if not self.broken and not self.missed:
            ran = "What ran broke off nowhere" if skipped else "Every section ran"
            print(f"\n{ran}, and every promise was kept.")
        print(f"written to {path}")
        sys.stdout.flush()
        return 1 if self.broken or (self.missed and not TOY) else 0


#: Sets and programs that were looked for and are not here.
skipped: set[str] = set()


def skip(what: str) -> None:
    """Say that something is absent, so that what needs it is left out."""
    print(f"skipped: {what}")
    skipped.add(what)
