"""Writes while others search: made through the API, logged when acknowledged, and what each answer had to know."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from _search_http import Wire, message
from _search_load import Tenant, database
from _search_real import Vectors

if TYPE_CHECKING:
    from _search_bench import Bench

NEVER = float("inf")
# What float32 may differ by between two ways to multiply.
MARGIN = 1e-5


@dataclass
class Added:
    """An asset of this run: when its readiness was acknowledged, when its deletion was sent and acknowledged."""

    id: str
    ready: float
    generation: str = ""
    delete_sent: float = NEVER
    deleted: float = NEVER
    vector: Any = None


class Log:
    """What was acknowledged when, by `time.perf_counter`; loaded rows by number, new assets by id."""

    def __init__(self, bench: Bench, tenant: Tenant, texts: list[str], vectors: Vectors) -> None:
        self._bench, self._tenant, self.texts, self._vectors = bench, tenant, texts, vectors
        self.lock = threading.Lock()
        self.added: dict[str, Added] = {}
        # Row number → (sent, acknowledged), and asset id → [(acknowledged, version)].
        self.deleted: dict[int, tuple[float, float]] = {}
        self.changed: dict[str, list[tuple[float, int]]] = defaultdict(list)
        self.failures: list[str] = []
        with database(bench.stack) as cursor:
            cursor.execute("SELECT external_id, id FROM asset WHERE tenant_id = %s", [str(tenant.id)])
            self.ids = {int(name): str(asset) for name, asset in cursor.fetchall() if name}
        self._stored = bench.stored(tenant.count)

    def acknowledged(self) -> dict[str, list[Any]]:
        gone = [one for one in self.added.values() if one.deleted < NEVER]
        changes = [change for some in self.changed.values() for change in some]
        kinds = {"added": list(self.added.values()), "deleted": [*self.deleted, *gone], "changed": changes}
        return kinds | ({"FAILED " + self.failures[0][:80]: self.failures} if self.failures else {})

    def read_vectors(self) -> None:
        """The vectors of the assets that were added, from the database: deleted ones show up no more."""
        with database(self._bench.stack) as cursor:
            cursor.execute(
                "SELECT asset_id, data FROM vector WHERE tenant_id = %s AND seq > %s",
                [str(self._tenant.id), self._tenant.count],
            )
            for asset, data in cursor.fetchall():
                if str(asset) in self.added:
                    self.added[str(asset)].vector = np.frombuffer(data, "<f4")

    # --- What an answer had to know --------------------------------------------------------------------------

    def shows_deleted(self, reply: dict[str, Any]) -> bool:
        """Whether an asset is in it whose deletion was acknowledged before the question was sent."""
        for asset, row, _ in reply["results"]:
            gone = self.deleted.get(row, (NEVER, NEVER))[1] if row >= 0 else NEVER
            if asset in self.added:
                gone = self.added[asset].deleted
            if gone < reply["sent"]:
                return True
        return False

    def shows_outdated(self, reply: dict[str, Any]) -> bool:
        for asset, _, metadata in reply["results"]:
            known = [version for at, version in self.changed.get(asset, []) if at < reply["sent"]]
            if known and int(metadata.get("version", 0)) < max(known):
                return True
        return False

    def compared(self, reply: dict[str, Any], query: Any, truth: np.ndarray) -> tuple[bool, float]:
        """Whether it misses an asset that was certainly there and is newer than its index, and its recall.

        `truth` are the best of the loaded rows, enough to be left with ten. An asset that was being written just then
        may be in the answer or not. Recall is over those that were certainly there.
        """
        sure_rows = [
            row for row in truth.tolist() if self.deleted.get(row, (NEVER, NEVER))[0] > reply["received"]
        ]
        sure = [(float(self._stored[row] @ query), self.ids[row], False) for row in sure_rows[:20]]
        for one in list(self.added.values()):
            if one.vector is not None and one.ready < reply["sent"] and one.delete_sent > reply["received"]:
                sure.append((float(one.vector @ query), one.id, one.generation == reply["generation"]))
        sure.sort(reverse=True)
        best, found = sure[:10], {asset for asset, _, _ in reply["results"]}
        # What may have been there as well takes places that are then missing to the last of the ten.
        unsure = len(found - {asset for _, asset, _ in sure})
        due = best[: max(0, 10 - unsure)]
        missing = [one for one in due if one[1] not in found and one[0] > due[-1][0] + MARGIN]
        newer = any(new for _, _, new in missing)
        share = 1 - sum(one[1] not in found for one in due) / max(1, len(due))
        return newer, share


class Writer:
    """One write at each call: an asset added, deleted or changed in turn; most are near what is asked most."""

    def __init__(self, bench: Bench, tenant: Tenant, log: Log, hot: list[int]) -> None:
        self._bench, self._tenant, self._log = bench, tenant, log
        self._turn, self._next, self._hot = 0, 0, hot
        self._wires, self._changing = threading.local(), threading.Lock()
        self._near = self._rows_near(hot)
        self._chance = random.Random(84)

    def _rows_near(self, hot: list[int]) -> list[int]:
        """Rows that answer the hottest questions, best first: to be deleted or changed."""
        truth = self._bench.truth(self._tenant.count, self._log._vectors[hot[:200]])
        return list(dict.fromkeys(truth.T.ravel().tolist()))

    def write(self) -> None:
        with self._log.lock:
            self._turn += 1
            turn = self._turn
        try:
            (self._add, self._delete, self._change)[turn % 3](turn)
        except Exception as error:  # the log tells; the trace goes on
            self._log.failures.append(f"{type(error).__name__}: {error}")

    def _add(self, turn: int) -> None:
        with self._log.lock:
            text = self._log.texts[self._hot[self._next]]
            self._next += 1
        # The index that answers before the asset is sent is older than the asset, whatever comes after.
        generation = self._generation()
        path = f"/api/v1/datasets/{self._tenant.dataset}/assets"
        answer = self._send("POST", path, {"text": text, "metadata": {"version": "0"}}, Prefer="wait=30")
        asset = answer.get("asset", answer)
        if asset["status"] == "ready":
            one = Added(asset["id"], time.perf_counter(), generation)
            with self._log.lock:
                self._log.added[one.id] = one

    def _delete(self, turn: int) -> None:
        with self._log.lock:
            mine = [one for one in self._log.added.values() if one.delete_sent == NEVER]
            # Of its own every other time: those that the cache has seen come and now must see go.
            one = self._chance.choice(mine) if mine and turn % 2 else None
            row = -1 if one else self._near.pop(0)
        sent = time.perf_counter()
        if one:
            one.delete_sent = sent
            one.vector = self._vector(one.id)
        else:
            # From now on it may be gone; acknowledged never, as far as one knows.
            self._log.deleted[row] = (sent, NEVER)
        self._send("DELETE", f"/api/v1/assets/{one.id if one else self._log.ids[row]}")
        if one:
            one.deleted = time.perf_counter()
        else:
            self._log.deleted[row] = (sent, time.perf_counter())

    def _change(self, turn: int) -> None:
        with self._log.lock:
            row = self._near[self._chance.randrange(min(50, len(self._near)))]
        asset = self._log.ids[row]
        # One at a time: of two changes of one asset, who could say which came last.
        with self._changing:
            version = time.time_ns()
            self._send(
                "PATCH", f"/api/v1/assets/{asset}", {"metadata": {"group": "tenth", "version": str(version)}}
            )
            self._log.changed[asset].append((time.perf_counter(), version))

    def _vector(self, asset: str) -> Any:
        with database(self._bench.stack) as cursor:
            cursor.execute(
                "SELECT data FROM vector WHERE tenant_id = %s AND asset_id = %s",
                [str(self._tenant.id), asset],
            )
            row = cursor.fetchone()
        return np.frombuffer(row[0], "<f4") if row else None

    def _generation(self) -> str:
        with database(self._bench.stack) as cursor:
            cursor.execute(
                "SELECT current_id FROM index_pointer WHERE tenant_id = %s", [str(self._tenant.id)]
            )
            row = cursor.fetchone()
        return str(row[0]) if row else ""

    def _send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        if not hasattr(self._wires, "wire"):
            self._wires.wire = Wire(self._bench.stack.base_url)
        request = message(self._wires.wire.host, method, path, self._tenant.key, body, **headers)
        status, content = self._wires.wire.send(request)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {content[:200]!r}")
        return json.loads(content) if content else None
