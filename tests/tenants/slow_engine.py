"""A second engine that keeps the contract of `tenants.retrieval.engines` true: flat numpy over HTTP, in a process of
its own, late on purpose, and failing when it is told to.

    with slow_engine() as engine: ENGINES["slow"] = engine

As a program it is the server. Segments belong to the tenant whose id comes with a call; half precision, and an effort
of 1 looks at every other row only.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tests.waiting import pause

DELAY_S = 0.005
KIND = "slow:flat"


# --- The server ------------------------------------------------------------------------------------------

SEGMENTS: dict[tuple[str, str], dict[str, Any]] = {}
FAULTS = {"fail": 0, "hang": 0}


class NotThere(Exception):
    pass


def _segment(call: dict[str, Any]) -> dict[str, Any]:
    try:
        return SEGMENTS[call["tenant"], call["segment"]]
    except KeyError:
        raise NotThere from None


def _begin(call: dict[str, Any]) -> None:
    if any(segment == call["segment"] for _, segment in SEGMENTS):
        raise ValueError("already exists")
    SEGMENTS[call["tenant"], call["segment"]] = {"columns": [], "vectors": [], "done": False}


def _add(call: dict[str, Any]) -> None:
    segment = _segment(call)
    if segment["done"]:
        raise ValueError("a finished segment takes no more rows")
    segment["columns"] += call["rows"]
    segment["vectors"].append(np.frombuffer(call["vectors"], np.float16).reshape(-1, 256))


def _finish(call: dict[str, Any]) -> None:
    segment = _segment(call)
    columns = list(zip(*segment["columns"], strict=True))
    segment["seq"], segment["kind"], segment["part"] = (np.array(columns[n], np.int64) for n in (0, 3, 4))
    segment["asset"], segment["dataset"] = np.array(columns[1]), np.array(columns[2])
    segment["values"] = np.concatenate(segment["vectors"]).astype(np.float32)
    segment["done"] = True


def _mask(segment: dict[str, Any], only: dict[str, Any]) -> np.ndarray:
    mask = np.ones(len(segment["seq"]), bool)
    for name, column in (("datasets", "dataset"), ("kinds", "kind"), ("assets", "asset"), ("seqs", "seq")):
        if only.get(name) is not None:
            mask &= np.isin(segment[column], np.array(only[name], segment[column].dtype))
    if only.get("hidden"):
        mask &= ~np.isin(segment["dataset"], only["hidden"])
    if only.get("until") is not None:
        mask &= segment["seq"] <= only["until"]
    if only.get("every", 1) > 1:
        mask &= segment["seq"] % only["every"] == 0
    return mask


def _find(call: dict[str, Any]) -> list[list[Any]]:
    segment = _segment(call)
    rows = np.flatnonzero(_mask(segment, call["only"]))
    if call["effort"] == 1:
        rows = rows[::2]
    scores = segment["values"][rows] @ np.frombuffer(call["query"], np.float32)
    best = rows[np.argsort(-scores, kind="stable")[: call["limit"]]]
    return [[int(segment["seq"][row]), str(segment["asset"][row]), int(segment["part"][row])] for row in best]


def _count(call: dict[str, Any]) -> int:
    segment = _segment(call)
    return len(np.unique(segment["asset"][_mask(segment, call["only"])]))


def _partitions(call: dict[str, Any]) -> list[list[Any]]:
    segment, assets = _segment(call), {}
    for asset, dataset, kind in zip(segment["asset"], segment["dataset"], segment["kind"], strict=True):
        assets[str(asset)] = str(dataset), int(kind)
    return [[asset, *filed] for asset, filed in assets.items()]


def _list(call: dict[str, Any]) -> list[list[Any]]:
    mine = [(segment, held) for (tenant, segment), held in SEGMENTS.items() if tenant == call["tenant"]]
    return [[segment, sum(some.nbytes for some in held["vectors"])] for segment, held in mine]


CALLS = {
    "begin": _begin,
    "add": _add,
    "finish": _finish,
    "find": _find,
    "count": _count,
    "partitions": _partitions,
    "list": _list,
    "everything": lambda call: [list(pair) for pair in SEGMENTS],
    "is_there": lambda call: SEGMENTS.get((call["tenant"], call["segment"]), {}).get("done", False),
    "drop": lambda call: SEGMENTS.pop((call["tenant"], call["segment"]), None) is not None,
    "faults": lambda call: FAULTS.update(call["faults"]),
}


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        call = msgspec.msgpack.decode(self.rfile.read(int(self.headers["Content-Length"])))
        name = self.path.strip("/")
        pause(DELAY_S, "an engine across a network is slow")
        for fault in FAULTS if name != "faults" else ():
            if FAULTS[fault]:
                FAULTS[fault] -= 1
                if fault == "hang":
                    pause(2 * TIMEOUT_S, "an engine that hangs answers after who asked has given up")
                self.send_error(503)
                return
        try:
            answer, status = msgspec.msgpack.encode(CALLS[name](call)), 200
        except NotThere:
            answer, status = b"", 404
        except ValueError as error:
            answer, status = str(error).encode(), 409
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *args: Any) -> None:
        pass


# --- The engine ------------------------------------------------------------------------------------------

TIMEOUT_S = 1.0
TRIES = 2


def _engine(address: str) -> Any:
    """Its classes are made here, as the server needs nothing of the product."""
    from dataclasses import dataclass

    from tenants.errors import Unavailable
    from tenants.retrieval.engines import (
        Engine,
        ExternalSegment,
        NewRow,
        read_efforts,
        read_partitions,
    )
    from tenants.retrieval.filters import assets_of
    from tenants.retrieval.models import Vector
    from tenants.retrieval.types import MODALITIES, Hit, Partition, Restriction, SegmentGone
    from tenants.scope import current_tenant_id, tenant_scope

    def ask(name: str, tenant_id: uuid.UUID | str, segment_id: uuid.UUID | str = "", **more: Any) -> Any:
        body = msgspec.msgpack.encode({"tenant": str(tenant_id), "segment": str(segment_id), **more})
        for attempt in range(TRIES):
            try:
                with urllib.request.urlopen(f"{address}/{name}", body, TIMEOUT_S) as answer:
                    return msgspec.msgpack.decode(answer.read())
            except urllib.error.HTTPError as error:
                if error.code == 404:
                    raise SegmentGone from error
                if error.code == 409:
                    raise ValueError(error.read().decode()) from error
                failure: Exception = error
            except OSError as error:
                failure = error
            if attempt == TRIES - 1:
                raise Unavailable("The engine does not answer.") from failure
        return None

    @dataclass(frozen=True)
    class SlowSegment(ExternalSegment):
        def count(self, only: Restriction) -> int:
            if only.planned:
                return max(0, len(self._matching(only)) - len(only.assets or ()))
            return int(ask("count", self.tenant_id, self.id, only=self._told(only)))

        def find(
            self, query: np.ndarray, depth: int, only: Restriction, *, share: float, exact: bool
        ) -> tuple[list[Hit], float]:
            effort = 2 if exact else self.effort_of(share)
            found = self._best(query, depth, self._told(only), effort)
            if len(found) < depth and effort == 1:
                found, exact = self._best(query, depth, self._told(only), 2), True
            return found, 1.0 if exact else self.recall_of(share)

        def measured(self, query: np.ndarray, depth: int, effort: int, every: int) -> np.ndarray:
            found = self._best(query, depth, {"every": every}, effort)
            return np.array([hit.score for hit in found], np.float32)

        def candidates(self, query: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
            rows = self._rows(query, depth, {}, self.effort_of(1.0))
            hits = self._hits(query, rows)
            order = {hit[0]: hit[1].score for hit in hits}
            return np.array([order[row[0]] for row in rows], np.float32), np.array([row[0] for row in rows])

        def hits_of(
            self, query: np.ndarray, scores: np.ndarray, rows: np.ndarray, only: Restriction
        ) -> list[Hit]:
            return self._best(query, len(rows), {**self._told(only), "seqs": rows.tolist()}, 2)

        def partitions_of(self, asset_ids: Iterable[uuid.UUID]) -> dict[uuid.UUID, Partition]:
            wanted = set(asset_ids)
            filed = ask("partitions", self.tenant_id, self.id) if wanted else []
            known = {uuid.UUID(asset): (uuid.UUID(dataset), kind) for asset, dataset, kind in filed}
            return {asset_id: known[asset_id] for asset_id in wanted if asset_id in known}

        def _told(self, only: Restriction) -> dict[str, Any]:
            named = self._matching(only) if only.planned else only.assets
            kinds = None if only.modalities is None else [MODALITIES.index(one) for one in only.modalities]
            return {
                "datasets": None if only.datasets is None else [str(one) for one in only.datasets],
                "hidden": [str(one) for one in only.hidden_datasets],
                "kinds": kinds,
                "assets": None if named is None else [str(one) for one in named],
                "until": only.until if only.until is not None and only.until < self.seq else None,
            }

        def _matching(self, only: Restriction) -> list[uuid.UUID]:
            with tenant_scope(self.tenant_id):
                assets = assets_of(only.planned)
                if only.datasets is not None:
                    assets = assets.filter(dataset_id__in=only.datasets)
                if only.modalities is not None:
                    assets = assets.filter(modality__in=only.modalities)
                return list(assets.values_list("pk", flat=True))

        def _best(self, query: np.ndarray, limit: int, only: dict[str, Any], effort: int) -> list[Hit]:
            return [hit for _, hit in self._hits(query, self._rows(query, limit, only, effort))]

        def _rows(self, query: np.ndarray, limit: int, only: dict[str, Any], effort: int) -> list[list[Any]]:
            raw = query.astype(np.float32).tobytes()
            found: list[list[Any]] = ask(
                "find", self.tenant_id, self.id, query=raw, limit=limit, only=only, effort=effort
            )
            return found

        def _hits(self, query: np.ndarray, rows: list[list[Any]]) -> list[tuple[int, Hit]]:
            """With exact scores, by the stored vectors. One that was replaced a moment ago counts no more."""
            with tenant_scope(self.tenant_id):
                stored = {
                    seq: (np.frombuffer(bytes(data), "<f4"), segment)
                    for seq, data, segment in Vector.objects.filter(
                        seq__in=[row[0] for row in rows]
                    ).values_list("seq", "data", "segment")
                }
            hits = []
            for seq, asset, part in rows:
                values, segment = stored.get(seq, (np.zeros(256, np.float32), None))
                hit = Hit(uuid.UUID(asset), float(values @ query), MODALITIES[part], segment)
                hits.append((seq, hit))
            return sorted(hits, key=lambda pair: -pair[1].score)

    class SlowEngine(Engine):
        kind = KIND
        efforts = (1, 2)
        # Tests set it.
        above: Any = None

        def describe(self) -> str:
            ask("everything", "")
            return "the slow engine"

        def everything(self) -> Iterator[tuple[uuid.UUID, uuid.UUID]]:
            yield from ((uuid.UUID(tenant), uuid.UUID(one)) for tenant, one in ask("everything", ""))

        def require(self) -> None:
            ask("list", current_tenant_id())

        def begin(self, segment_id: uuid.UUID) -> None:
            ask("begin", current_tenant_id(), segment_id)

        def add(self, segment_id: uuid.UUID, rows: Sequence[NewRow], vectors: np.ndarray) -> None:
            told = [[row.seq, str(row.asset_id), str(row.dataset_id), row.kind, row.part] for row in rows]
            half = vectors.astype(np.float16).tobytes()
            ask("add", current_tenant_id(), segment_id, rows=told, vectors=half)

        def finish(self, segment_id: uuid.UUID, rows: int) -> float:
            ask("finish", current_tenant_id(), segment_id)
            return 1.0

        def open(
            self, segment_id: uuid.UUID, *, seq: int, details: Mapping[str, Any]
        ) -> ExternalSegment | None:
            if not self.is_there(segment_id):
                return None
            efforts, partitions = read_efforts(details), read_partitions(details)
            return SlowSegment(
                current_tenant_id(), segment_id, seq, KIND, int(details["rows"]), efforts, partitions
            )

        def is_there(self, segment_id: uuid.UUID) -> bool:
            return bool(ask("is_there", current_tenant_id(), segment_id))

        def partitions(self, segment_id: uuid.UUID) -> dict[Partition, int]:
            counts: dict[Partition, int] = {}
            for _, dataset, kind in ask("partitions", current_tenant_id(), segment_id):
                counts[uuid.UUID(dataset), kind] = counts.get((uuid.UUID(dataset), kind), 0) + 1
            return counts

        def segments(self) -> Iterator[tuple[uuid.UUID, int]]:
            yield from ((uuid.UUID(one), size) for one, size in ask("list", current_tenant_id()))

        def drop(self, segment_id: uuid.UUID) -> bool:
            return bool(ask("drop", current_tenant_id(), segment_id))

        def meet(self, **faults: int) -> None:
            """`fail`: so many of the next calls answer 503; `hang`: so many answer too late."""
            ask("faults", "", faults=faults)

    return SlowEngine()


@contextmanager
def slow_engine() -> Iterator[Any]:
    """The engine, with its process for as long as the context lasts."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.tenants.slow_engine"],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        try:
            yield _engine(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        sys.stdout.write(f"{server.server_address[1]}\n")
        sys.stdout.flush()
        server.serve_forever()
