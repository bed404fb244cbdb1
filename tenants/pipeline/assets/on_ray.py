"""Assets that lack vectors of a model, encoded on a Ray cluster (`RAY_ADDRESS`, `ml.bulk`).

The job stays where it is, in a worker that holds its lease: it writes the manifest of a shard, starts `ml.bulk` as a
child without secrets, and stores what comes back part by part, in the tenant's scope and under its fence. What a part
brings for an asset that is not in the manifest, or was answered before, is passed over.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.utils.translation import gettext as _

from ml import bulk, sandbox
from ml.compression import model_places
from tenants.datasets import documents, storage
from tenants.datasets.models import Asset
from tenants.errors import Conflict, Unavailable
from tenants.jobs import processes
from tenants.retrieval import model_routing
from tenants.retrieval.index import NewVector

if TYPE_CHECKING:
    from tenants.pipeline.assets.reembed import Item

log = logging.getLogger(__name__)

# Assets of a shard, and of how few it is not worth the start of actors. Sound and film are not for it: they take
# minutes each, and what was said in them is read from the database.
SHARD, LEAST = 20_000, 200
MODALITIES = (Asset.Modality.TEXT, Asset.Modality.IMAGE)
# How long the addresses of files can be read, and after how long without a part the cluster is given up.
LINKS_S, STALL_S = 6 * 3600, 900.0
# What tells a driver how to reach the cluster.
ACCESS: tuple[str, ...] = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
ACCESS += ("RAY_USE_TLS", "RAY_TLS_SERVER_CERT", "RAY_TLS_SERVER_KEY", "RAY_TLS_CA_CERT")


class RayMissing(Conflict):
    """`RAY_ADDRESS` is set where the package is not installed."""

    slug, title = "ray-missing", "Ray is not here"


def is_for_ray(item: Item) -> bool:
    """Encrypted files are not: its nodes have no keys. Nor are documents: what was read of them is not their file."""
    is_document = documents.is_document(item.asset.blob.media_type)
    return not settings.ENCRYPT_FILES and item.asset.modality in MODALITIES and not is_document


def encode(
    items: Sequence[Item], *, model: str, tenant_id: UUID, check: Callable[[], None]
) -> Generator[list[Item], None, None]:
    """The items in portions, with their vectors or with what is wrong with them, each once; in no scope.

    `check` is called about every second; what it raises ends the work. Raises RayMissing, Unavailable.
    """
    if find_spec("ray") is None:
        raise RayMissing(_("RAY_ADDRESS is set, but Ray is not installed: pip install 'crosslight[ray]'."))
    with TemporaryDirectory(dir=settings.SPOOL_DIR, prefix="ray-") as made:
        folder = Path(made)
        _write_task(folder, items, model, tenant_id)
        waiting = {str(item.asset.id): item for item in items}
        # The child ends before its folder goes.
        with closing(_parts(folder, check)) as parts:
            for part in parts:
                if found := _taken(part, model, waiting):
                    yield found


def _write_task(folder: Path, items: Sequence[Item], model: str, tenant_id: UUID) -> None:
    bulk.Task(
        address=settings.RAY_ADDRESS,
        model=model,
        decoder_memory_bytes=settings.DECODER_MEMORY_BYTES,
        decoder_timeout_s=settings.DECODER_TIMEOUT_S,
    ).write(folder)
    if model_routing.is_own(model):
        model_routing.fetch_space(tenant_id, model, folder / bulk.SPACE)
    rows = pa.Table.from_pylist([_row(item.asset) for item in items], schema=bulk.MANIFEST)
    pq.write_table(rows, folder / bulk.MANIFEST_FILE)


def _row(asset: Asset) -> bulk.Row:
    path = storage.path_of(asset.tenant_id, asset.blob.sha256)
    return {
        "id": str(asset.id),
        "kind": str(asset.modality),
        "source": storage.link_to(path, LINKS_S),
        "bytes": asset.blob.bytes,
        "captions": list(asset.captions),
    }


def _parts(folder: Path, check: Callable[[], None]) -> Generator[pa.Table, None, None]:
    """As they are written; their files are removed. Raises what `check` raises, and Unavailable."""
    command = [sys.executable, "-m", "ml.bulk", str(folder)]
    env = {**model_places(), **sandbox.kept(*ACCESS), "RAY_USAGE_STATS_ENABLED": "0"}
    last: dict[str, Any] = {}
    heard = time.monotonic()
    with processes.running(command, env=env) as child:
        for line in child.lines():
            check()
            if line is not None and "part" in line:
                path = folder / Path(line["part"]).name
                yield pq.read_table(path, schema=bulk.PART)
                path.unlink()
                heard = time.monotonic()
            last = line or last
            if time.monotonic() - heard > STALL_S:
                last = {"error": f"nothing came for {STALL_S:.0f} s"}
                child.kill()
                break
    if "done" not in last:
        log.warning("Ray did not encode a shard", extra={"said": str(last.get("error", "it ended"))})
        raise Unavailable(_("The Ray cluster did not encode these assets; the worker's log says why."))


def _taken(part: pa.Table, model: str, waiting: dict[str, Item]) -> list[Item]:
    found = []
    for row in part.to_pylist():
        if (item := waiting.pop(row["id"], None)) is not None:
            item.failure = row["error"]
            item.prepared.spend(row["cpu_s"])
            item.prepared.vectors += [_vector(one, model) for one in row["vectors"]]
            item.prepared.parts = len(item.prepared.vectors)
            found.append(item)
    return found


def _vector(found: bulk.Encoded, model: str) -> NewVector:
    segment = json.loads(found["segment"]) if found["segment"] else None
    return NewVector(found["modality"], np.frombuffer(found["data"], "<f4"), segment, model)
