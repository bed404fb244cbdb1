"""What all sections share: the stack, the vectors, tenants that were loaded once, and the table of what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _search_http import SectionFailed, message, vector_body
from _search_load import Tenant, create_tenant, database, demo_vectors, fill, groups, settle
from _search_real import Vectors, character, embedded, sentences
from _search_vectors import Source, exact

from ml.alignment.space import JointSpace
from standalone.config import ROOT
from standalone.stack import Stack, inherited

VECTORS = int(os.environ.get("VECTORS") or 1_000_000)
HUNDRED = min(VECTORS, int(os.environ.get("SMALL") or 100_000))
QUERIES = int(os.environ.get("QUERIES") or 1_000)
TENANTS = int(os.environ.get("TENANTS") or 1_000)
EACH = 1_000
RECALL = 0.99


@dataclass
class Line:
    """One row of the table. `cpu_ms` is the web process's, a search; a line without target only tells."""

    what: str
    value: float | str
    unit: str = ""
    target: str = ""
    met: bool | None = None
    cpu_ms: float | None = None

    def shown(self) -> str:
        verdict = "" if self.met is None else "met" if self.met else "MISSED"
        value = (
            f"{self.value:,.3f}".rstrip("0").rstrip(".") if isinstance(self.value, float) else str(self.value)
        )
        cpu = "" if self.cpu_ms is None else f"{self.cpu_ms:.2f}"
        return f"{self.what:58}{value:>14} {self.unit:8}{self.target:>12}  {verdict:7}{cpu:>8}"


def at_most(what: str, value: float, limit: float, unit: str = "ms", cpu_ms: float | None = None) -> Line:
    return Line(what, round(value, 3), unit, f"<= {limit:g}", value <= limit, cpu_ms)


def at_least(what: str, value: float, limit: float, unit: str = "", cpu_ms: float | None = None) -> Line:
    return Line(what, round(value, 4), unit, f">= {limit:g}", value >= limit, cpu_ms)


@dataclass
class Bench:
    """One run on one stack. Loaded tenants are kept in its folder, so that another run starts at once."""

    stack: Stack
    workers: int = 1
    figures: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def space(self) -> JointSpace:
        return JointSpace.load()

    @property
    def model(self) -> str:
        return f"{self.space.id}:{self.space.version}"

    @cached_property
    def source(self) -> Source:
        real = np.concatenate([demo_vectors(self.stack), embedded(self.space, sentences())])
        source = Source(real)
        kinds = {"real": source.real, "drawn": source.draw(10_000, seed=2)}
        self.figures["vectors"] = {kind: character(vectors) for kind, vectors in kinds.items()}
        print("\nVectors: intrinsic dimension and cosines to neighbours, of as many points")
        for kind, found in self.figures["vectors"].items():
            print(f"  {kind:6}", "  ".join(f"{name} {value:g}" for name, value in found.items()))
        return source

    def stored(self, count: int) -> Vectors:
        return self.source.stored(max(count, VECTORS))[:count]

    def queries(self, count: int, seed: int) -> Vectors:
        """Fresh draws: never stored, and by the bits of a clock never asked before."""
        return self.source.draw(count, seed=[seed, time.time_ns()])  # type: ignore[arg-type]

    # --- Tenants -----------------------------------------------------------------------------------------

    @property
    def _known(self) -> Path:
        return self.stack.data_dir / "bench-tenants.json"

    def tenant(self, slug: str, count: int, first: int = 0) -> Tenant:
        """A tenant with the stored vectors from `first` on; loaded if an earlier run has not."""
        return self.tenants({slug: (count, first)})[0]

    def tenants(self, wanted: dict[str, tuple[int, int]]) -> list[Tenant]:
        known = json.loads(self._known.read_text()) if self._known.exists() else {}
        digest = self.source.digest
        names = {f"{slug}-{digest[:6]}": numbers for slug, numbers in wanted.items()}
        new = {slug: numbers for slug, numbers in names.items() if slug not in known}
        if new:
            start = time.perf_counter()
            made = json.dumps([asdict(tenant) for tenant in self._load(new)], default=str)
            known |= {entry["slug"]: entry for entry in json.loads(made)}
            self._known.write_text(json.dumps(known))
            rows, took = sum(count for count, _ in new.values()), time.perf_counter() - start
            self.figures.setdefault("loading", {})[min(new)] = {"rows": rows, "seconds": round(took, 1)}
            print(f"loaded {rows:,} assets into {len(new):,} tenants in {took:.0f} s")
        return [_tenant(known[slug]) for slug in names]

    def _load(self, new: dict[str, tuple[int, int]]) -> list[Tenant]:
        most = max(first + count for count, first in new.values())
        vectors, names, made = self.stored(most), groups(most), []
        with database(self.stack) as cursor:
            for slug, (count, first) in new.items():
                made.append(create_tenant(cursor, slug, count))
                rows = slice(first, first + count)
                fill(cursor, made[-1], vectors[rows], names[:count], self.model)
        settle(self.stack)
        return made

    def built(self, tenant: Tenant) -> Tenant:
        """With a generation that answers, built if need be."""
        if self._index_of(tenant) == "none":
            self.build(tenant)
        if self._index_of(tenant) == "none":
            raise SectionFailed(f"No generation of {tenant.slug} was published.")
        return tenant

    def _index_of(self, tenant: Tenant) -> str:
        with database(self.stack) as cursor:
            cursor.execute("SELECT current_id FROM index_pointer WHERE tenant_id = %s", [str(tenant.id)])
            row = cursor.fetchone()
        return str(row[0]) if row and row[0] else "none"

    def build(self, tenant: Tenant, timeout_s: float = 3600) -> float:
        """Seconds until the index is built anew, from outside."""
        start = time.perf_counter()
        process = self.build_process(tenant)
        output, _ = process.communicate(timeout=timeout_s)
        if process.returncode:
            raise SectionFailed(f"build_index: {output.strip().splitlines()[-1][:300]}")
        return time.perf_counter() - start

    def build_process(self, tenant: Tenant) -> subprocess.Popen[str]:
        command = [sys.executable, "manage.py", "build_index", tenant.slug, "--wait"]
        env = {**inherited(), **self.stack.env}
        return subprocess.Popen(
            command, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    # --- Searches ----------------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        return self.stack.base_url.removeprefix("http://")

    def search(self, tenant: Tenant, body: dict[str, Any]) -> bytes:
        return message(self.host, "POST", "/api/v1/search", tenant.key, body)

    def searches(self, tenant: Tenant, queries: Vectors, **more: Any) -> list[bytes]:
        return [self.search(tenant, vector_body(query, **more)) for query in queries]

    def truth(self, count: int, queries: Vectors, rows: np.ndarray | None = None, k: int = 10) -> np.ndarray:
        """The best rows among the first `count`, or among `rows` of them: int64 [queries, k]."""
        return exact(self.stored(count), queries, k, rows)

    def show(self, title: str, lines: Sequence[Line]) -> None:
        print(f"\n{title}")
        print(f"{'':58}{'value':>14} {'':8}{'target':>12}  {'':7}{'cpu ms':>8}")
        for line in lines:
            print(line.shown())
        sys.stdout.flush()


def _tenant(entry: dict[str, Any]) -> Tenant:
    ids = {name: uuid.UUID(entry[name]) for name in ("id", "dataset")}
    return Tenant(**{**entry, **ids})
