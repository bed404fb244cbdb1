"""The layout of an export: names, fields and the words that go with them. Version 1.

export.json       what this is: format, version, tenant, counts, digest of the manifest
manifest.jsonl    path, length and SHA-256 of every other file, by path
datasets.jsonl assets.jsonl blobs.jsonl transcripts.jsonl audit.jsonl webhooks.jsonl generations.jsonl
generation_outputs.jsonl    one JSON object a line
members.csv       people and their roles
vectors.parquet   if asked for
files/<kind>/ab/abcd…    stored files: `original`, and the renditions made from it, by the original's SHA-256
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pyarrow as pa

from tenants.datasets.storage import KINDS

FORMAT, VERSION = "crosslight-export", 1
HEADER, MANIFEST, README = "export.json", "manifest.jsonl", "README.txt"
VECTORS = "vectors.parquet"

# Of each table what is written, as attributes of its rows.
DATASET = ("id", "name", "description", "metadata_schema", "retention_days", "duplicates", "created_at")
ASSET = (
    "id",
    "dataset_id",
    "sha256",
    "modality",
    "status",
    "external_id",
    "filename",
    "caption",
    "more_captions",
    "excerpt",
    "metadata",
    "error",
    "moderation",
    "labels",
    "generation_id",
    "prompt",
    "revision",
    "created_at",
)
BLOB = (
    "sha256",
    "bytes",
    "media_type",
    "width",
    "height",
    "clean_type",
    "has_thumbnail",
    "details",
    "scan",
    "created_at",
)
TRANSCRIPT = ("asset_id", "start_s", "end_s", "text", "confidence")
AUDIT = ("id", "actor", "verb", "target", "details", "created_at")
WEBHOOK = ("id", "url", "description", "events", "state", "created_at")
GENERATION = (
    *(
        "id",
        "prompt",
        "negative",
        "outputs",
        "seed",
        "steps",
        "guidance",
        "width",
        "height",
        "seconds",
        "candidates",
    ),
    *(
        "dataset_id",
        "state",
        "score",
        "made_by",
        "error",
        "prompt_audit_id",
        "variation_of_id",
        "remix_of_id",
        "mark",
    ),
    *("created_by", "created_at", "finished_at"),
)
OUTPUT = (
    *("id", "generation_id", "kind", "asset_id", "score", "scores", "how", "model", "audit_id", "decision"),
    *("provenance", "created_at"),
)
MEMBER = ("email", "name", "role", "since")
TABLES: Mapping[str, tuple[str, ...]] = {
    "datasets.jsonl": DATASET,
    "assets.jsonl": ASSET,
    "blobs.jsonl": BLOB,
    "transcripts.jsonl": TRANSCRIPT,
    "audit.jsonl": AUDIT,
    "webhooks.jsonl": WEBHOOK,
    "generations.jsonl": GENERATION,
    "generation_outputs.jsonl": OUTPUT,
}
VECTOR = ("asset_id", "modality", "model", "segment", "vector")
# Numbers of a vector, where there is none to tell.
USUAL_DIMENSION = 256

_FILE = re.compile(rf"files/({'|'.join(KINDS)})/([0-9a-f]{{2}})/(\2[0-9a-f]{{62}})")


def vector_schema(dimension: int) -> pa.Schema:
    """Columns of VECTORS: lists of so many numbers; (0) of any length, where models of several dimensions are in it."""
    lists = pa.list_(pa.float32(), dimension or -1)
    return pa.schema([*((name, pa.string()) for name in VECTOR[:-1]), (VECTOR[-1], lists)])


def file_name(kind: str, sha256: str) -> str:
    return f"files/{kind}/{sha256[:2]}/{sha256}"


def file_of(name: str) -> tuple[str, str] | None:
    """Kind and original's SHA-256 of the name of a stored file; None for any other name."""
    found = _FILE.fullmatch(name)
    return (found[1], found[3]) if found else None


def is_known(name: str) -> bool:
    return name in TABLES or name in (README, VECTORS, "members.csv") or file_of(name) is not None


def readme() -> Iterator[str]:
    yield "An export of a Crosslight workspace, in open formats.\n\n"
    yield (__doc__ or "").partition("\n\n")[2]
    yield "\nFields, in this order:\n"
    for name, fields in TABLES.items():
        yield f"    {name:<24} {', '.join(fields)}\n"
    yield f"    {'members.csv':<24} {', '.join(MEMBER)}\n"
    yield f"    {VECTORS:<24} {', '.join(VECTOR)} (float32 of norm 1, of each model as many)\n"
    yield """
Times are UTC, ISO 8601. An asset's bytes are in files/original under its sha256; assets with equal bytes share them.
Check the files with the digests in manifest.jsonl, and that one with the digest in export.json.

Not included: API keys, secrets of webhooks, passwords and sessions; what webhooks were told; jobs; receipts of imports
and erasures; usage. Nothing is encrypted: keep this where the workspace itself could be kept.

Into another installation:  manage.py import_tenant PATH --slug NEW
Requests to generate, members, webhooks and the audit log are written here and not read there. What was generated stays
marked as such, in its asset and in its file.
"""


def plain(row: Mapping[str, object]) -> dict[str, object]:
    """A row as JSON can hold it."""
    return {
        key: value if isinstance(value, _JSON) or value is None else _text(value)
        for key, value in row.items()
    }


_JSON = (str, int, float, bool, dict, list)


def _text(value: object) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
