"""What all sections share: the stack, the vectors, tenants that were loaded once, and the table of what came out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from _report import Line, sized
from _search_http import SectionFailed, message, vector_body
from _search_load import Tenant, database, demo_vectors
from _search_real import Vectors, character, embedded, sentences
from _search_vectors import Source, exact
from _stack import SHARED, beside

from ml.alignment.space import SHIPPED, JointSpace
from ml.alignment.storage import MANIFEST, missing_models
from standalone.config import ROOT
from standalone.stack import Stack, inherited

VECTORS = int(os.environ.get("VECTORS") or sized(1_000_000, 300))
HUNDRED = min(VECTORS, int(os.environ.get("SMALL") or 100_000))
QUERIES = int(os.environ.get("QUERIES") or sized(1_000, 20))
TENANTS = int(os.environ.get("TENANTS") or sized(1_000, 2))
EACH = sized(1_000, 100)
RECALL = 0.99
# The space of new tenants, where its weights are.
BEST = "open-2"


class Here:
    """A management command in this process, which works on the shared stack already, as a process would be."""

    def __init__(self, *arguments: str) -> None:
        self._output, self.returncode = io.StringIO(), 0
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()

    def _run(self, *arguments: str) -> None:
        from django.core.management import call_command
        from django.db import connection

        try:
            call_command(*arguments, stdout=self._output)
        except Exception as error:
            self._output.write(f"{type(error).__name__}: {error}")
            self.returncode = 1
        finally:
            connection.close()

    def poll(self) -> int | None:
        return None if self._thread.is_alive() else self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        self._thread.join(timeout)
        return self._output.getvalue(), None


@dataclass
class Bench:
    """One run on one stack. Loaded tenants are kept in its folder, so that another run starts at once."""

    stack: Stack
    workers: int = 1
    figures: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def space(self) -> JointSpace:
        """The one that answers the searches of new tenants."""
        manifest = json.loads((SHIPPED.parent / BEST / MANIFEST).read_text("utf-8"))
        return JointSpace.load(SHIPPED.parent / (BEST if not missing_models(manifest) else "prior-2"))

    @cached_property
    def source(self) -> Source:
        real = np.concatenate([demo_vectors(self.stack), embedded(self.space, sentences())])
        source = Source(real)
        kinds = {"real": source.real, "drawn": source.draw(sized(10_000, 300), seed=2)}
        self.figures["vectors"] = {kind: character(vectors) for kind, vectors in kinds.items()}
        print("\nVectors: intrinsic dimension and cosines to neighbours, of as many points")
        for kind, found in self.figures["vectors"].items():
            print(f"  {kind:6}", "  ".join(f"{name} {value:g}" for name, value in found.items()))
        return source

    def stored(self, count: int) -> Vectors:
        return self.source.stored(max(count, VECTORS))[:count]

    def queries(self, count: int, seed: int) -> Vectors:
        """Fresh draws: never stored, and by the bits of a clock never asked before."""
        return self.source.draw(count, seed=[seed, time.time_ns()])

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
            made = beside(self.stack, "_search_fill", {"tenants": new, "vectors": str(self._file(new))})
            known |= {entry["slug"]: entry for entry in made}
            self._known.write_text(json.dumps(known))
            rows, took = sum(count for count, _ in new.values()), time.perf_counter() - start
            self.figures.setdefault("loading", {})[min(new)] = {"rows": rows, "seconds": round(took, 1)}
            print(f"loaded {rows:,} assets into {len(new):,} tenants in {took:.0f} s")
        return [_tenant(known[slug]) for slug in names]

    def _file(self, new: dict[str, tuple[int, int]]) -> Path:
        most = max(first + count for count, first in new.values())
        return self.source.file(max(most, VECTORS))

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

    def build_process(self, tenant: Tenant) -> subprocess.Popen[str] | Here:
        if SHARED:
            return Here("build_index", tenant.slug, "--wait")
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
