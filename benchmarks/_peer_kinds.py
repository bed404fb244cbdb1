"""Other vector databases, each through its own client, which alone is imported.

Runs in that database's own environment: knows NumPy, psutil and the client, nothing of this repository.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil


class Peer:
    """A database with all vectors in it: one tenant's or all of them are searched for the ten best row numbers.

    `ways` are its indexes; the efforts of a way are tried from cheap to thorough.
    """

    ways = ("",)
    efforts: tuple[int, ...] = (0,)

    def __init__(self, vectors: np.ndarray, owners: np.ndarray) -> None:
        self.vectors, self.owners = vectors, owners

    def load(self) -> None: ...

    def use(self, way: str) -> tuple[int, ...]:
        """Make this way's index; the efforts to try."""
        return self.efforts

    def search(self, query: np.ndarray, tenant: int | None, effort: int) -> list[int]:
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Of server processes beside this one."""
        return []

    def close(self) -> None: ...


class Chroma(Peer):
    """Its server, over HTTP. HNSW; the search depth is set when a collection is made or modified."""

    efforts = (100, 200, 400, 800)

    def load(self) -> None:
        self._start()
        graph = {"space": "ip", "ef_search": self.efforts[0], "max_neighbors": 32}
        self.collection = self.client.create_collection(
            "rows", embedding_function=None, configuration={"hnsw": graph}
        )
        for rows in _batches(len(self.vectors), 5_000):
            self.collection.add(
                ids=[str(row) for row in rows],
                embeddings=self.vectors[rows],
                metadatas=[{"tenant": int(self.owners[row])} for row in rows],
            )
        self._depth = self.efforts[0]

    def _start(self) -> None:
        import chromadb

        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program = str(Path(sys.executable).with_name("chroma"))
        arguments = ["run", "--path", "data", "--host", "127.0.0.1", "--port", str(port)]
        self.server = subprocess.Popen([program, *arguments], stdout=sys.stderr, stderr=sys.stderr)
        self.client = _until(lambda: chromadb.HttpClient(host="127.0.0.1", port=port), 60)

    def _deepen(self, depth: int) -> None:
        """Indexes that are open keep the depth that they were opened with: hence another server."""
        self.collection.modify(configuration={"hnsw": {"ef_search": depth}})
        self.close()
        self._start()
        self.collection = self.client.get_collection("rows", embedding_function=None)
        self._depth = depth

    def search(self, query: np.ndarray, tenant: int | None, effort: int) -> list[int]:
        if effort != self._depth:
            self._deepen(effort)
        where = None if tenant is None else {"tenant": tenant}
        found = self.collection.query(
            query_embeddings=query[None], n_results=10, where=where, include=["distances"]
        )
        return [int(name) for name in found["ids"][0]]

    def pids(self) -> list[int]:
        return [self.server.pid]

    def close(self) -> None:
        self.server.terminate()
        self.server.wait(30)


class PgVector(Peer):
    """The embedded Postgres. Exact by a sequential or tenant index scan; HNSW with iterative scans for the filter."""

    ways = (", exact", ", HNSW")

    def load(self) -> None:
        import psycopg2
        from pgvector.psycopg2 import register_vector

        self.connection = psycopg2.connect(os.environ["PEER_DATABASE"])
        self.connection.autocommit = True
        self.cursor = self.connection.cursor()
        self.cursor.execute("CREATE EXTENSION vector")
        register_vector(self.connection)
        width = self.vectors.shape[1]
        self.cursor.execute(f"CREATE TABLE rows (id int PRIMARY KEY, tenant int, data vector({width}))")
        for rows in _batches(len(self.vectors), 5_000):
            lines = "".join(
                f"{row}\t{self.owners[row]}\t[{','.join(map(str, self.vectors[row].tolist()))}]\n"
                for row in rows
            )
            self.cursor.copy_expert("COPY rows FROM STDIN", io.StringIO(lines))
        self.cursor.execute("CREATE INDEX ON rows (tenant)")
        self.cursor.execute("VACUUM ANALYZE rows")

    def use(self, way: str) -> tuple[int, ...]:
        if way == ", exact":
            return (0,)
        self.cursor.execute("SET maintenance_work_mem = '1GB'")
        self.cursor.execute(
            "CREATE INDEX ON rows USING hnsw (data vector_ip_ops) WITH (m = 32, ef_construction = 100)"
        )
        self.cursor.execute("SET hnsw.iterative_scan = strict_order")
        self.cursor.execute("SET enable_seqscan = off")
        return (64, 128, 256, 512, 1000)

    def search(self, query: np.ndarray, tenant: int | None, effort: int) -> list[int]:
        if effort and effort != getattr(self, "_depth", 0):
            self.cursor.execute(f"SET hnsw.ef_search = {effort}")
            self._depth = effort
        where, values = ("", []) if tenant is None else ("WHERE tenant = %s", [tenant])
        self.cursor.execute(f"SELECT id FROM rows {where} ORDER BY data <#> %s LIMIT 10", [*values, query])
        return [row[0] for row in self.cursor.fetchall()]

    def pids(self) -> list[int]:
        return [int(os.environ["PEER_SERVER_PID"])]


class Milvus(Peer):
    """milvus-lite, the embedded Milvus, through pymilvus."""

    ways = (", FLAT", ", HNSW")

    def load(self) -> None:
        from pymilvus import DataType, MilvusClient

        self.client = MilvusClient("milvus.db")
        schema = self.client.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("tenant", DataType.INT64)
        schema.add_field("data", DataType.FLOAT_VECTOR, dim=self.vectors.shape[1])
        self.client.create_collection("rows", schema=schema)
        for rows in _batches(len(self.vectors), 5_000):
            self.client.insert(
                "rows",
                [
                    {"id": row, "tenant": int(self.owners[row]), "data": self.vectors[row].tolist()}
                    for row in rows
                ],
            )
        self.client.flush("rows")

    def use(self, way: str) -> tuple[int, ...]:
        kind = way.removeprefix(", ")
        if kind != "FLAT":
            self.client.release_collection("rows")
            self.client.drop_index("rows", "data")
        index = self.client.prepare_index_params()
        more = {"M": 32, "efConstruction": 100} if kind == "HNSW" else {}
        index.add_index("data", index_type=kind, metric_type="IP", params=more)
        self.client.create_index("rows", index)
        self.client.load_collection("rows")
        return (0,) if kind == "FLAT" else (64, 128, 256, 512, 1024)

    def search(self, query: np.ndarray, tenant: int | None, effort: int) -> list[int]:
        wanted = "" if tenant is None else f"tenant == {tenant}"
        params = {"params": {"ef": effort}} if effort else {}
        found = self.client.search("rows", [query.tolist()], filter=wanted, limit=10, search_params=params)
        return [hit["id"] for hit in found[0]]

    def pids(self) -> list[int]:
        return [child.pid for child in psutil.Process().children(recursive=True)]


class Lance(Peer):
    """lancedb on a local folder: exact, and IVF-HNSW with one byte a number, refined; a scalar index on the tenant."""

    ways = (", exact", ", IVF_HNSW_SQ")

    def load(self) -> None:
        import lancedb
        import pyarrow as pa

        width = self.vectors.shape[1]
        flat = pa.array(self.vectors.ravel())
        data = pa.table(
            {
                "id": pa.array(range(len(self.vectors)), pa.int32()),
                "tenant": pa.array(self.owners, pa.int32()),
                "data": pa.FixedSizeListArray.from_arrays(flat, width),
            }
        )
        self.table = lancedb.connect("lance").create_table("rows", data)
        self.table.create_scalar_index("tenant")

    def use(self, way: str) -> tuple[int, ...]:
        if way == ", exact":
            return (0,)
        graph = {"index_type": "IVF_HNSW_SQ", "num_partitions": 1, "m": 32, "ef_construction": 100}
        self.table.create_index(metric="dot", vector_column_name="data", **graph)
        return (64, 128, 256, 512, 1024)

    def search(self, query: np.ndarray, tenant: int | None, effort: int) -> list[int]:
        asked = self.table.search(query, vector_column_name="data").metric("dot").limit(10).select(["id"])
        if effort:
            asked = asked.nprobes(1).ef(effort).refine_factor(5)
        if tenant is not None:
            asked = asked.where(f"tenant = {tenant}", prefilter=True)
        return asked.to_arrow()["id"].to_pylist()


PEERS: dict[str, type[Peer]] = {
    "chromadb": Chroma,
    "pgvector": PgVector,
    "milvus-lite": Milvus,
    "lancedb": Lance,
}


def _batches(count: int, size: int) -> Iterator[list[int]]:
    return (list(range(start, min(start + size, count))) for start in range(0, count, size))


def _until(attempt: Callable[[], Any], seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        try:
            return attempt()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
