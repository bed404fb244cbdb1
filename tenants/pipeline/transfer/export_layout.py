"""The layout of an export: names, fields and the words that go with them. Version 1.

export.json       what this is: format, version, tenant, counts, digest of the manifest, who signed
export.sig        the Ed25519 signature of export.json, 64 bytes
manifest.jsonl    path, length and SHA-256 of every other file, by path
datasets.jsonl assets.jsonl blobs.jsonl transcripts.jsonl audit.jsonl webhooks.jsonl generations.jsonl
generation_outputs.jsonl saved_searches.jsonl standing_queries.jsonl dataset_versions.jsonl
dataset_version_assets.jsonl
                  one JSON object a line; of a version of a dataset only what belongs to it, and export.json names it
members.csv       people and their roles
vectors.parquet   if asked for
files/<kind>/ab/abcd…    stored files: `original`, and what was made from it, by the original's SHA-256: renditions,
                  and of documents what was read (`parsed`, and its `words` in UTF-32)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import pyarrow as pa

from tenants.datasets.storage import KINDS

FORMAT, VERSION = "crosslight-export", 1
HEADER, SIGNATURE, MANIFEST, README = "export.json", "export.sig", "manifest.jsonl", "README.txt"
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
    "document",
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
# Of those that are shared.
SEARCH = ("id", "name", "query", "created_by", "created_at", "changed_at")
STANDING = (
    *("id", "name", "query", "state", "muted", "inbox", "frequency", "min_score"),
    *("created_by", "created_at", "changed_at"),
)
# Of those that were made; a line's digest in hex.
DATASET_VERSION = (
    *("id", "dataset_id", "name", "note", "made_from", "asset_count", "kinds", "digest", "gone"),
    *("created_by", "created_at"),
)
VERSION_ASSET = ("version_id", "asset_id", "digest")
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
    "saved_searches.jsonl": SEARCH,
    "standing_queries.jsonl": STANDING,
    "dataset_versions.jsonl": DATASET_VERSION,
    "dataset_version_assets.jsonl": VERSION_ASSET,
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
Whether the installation made it, by its public key (GET /records/anchors, or manage.py record_key), as key.pem:
    openssl pkeyutl -verify -pubin -inkey key.pem -rawin -in export.json -sigfile export.sig
or all at once:  manage.py verify_export PATH --key key.pem

Not included: API keys, secrets of webhooks, passwords and sessions; what webhooks were told; jobs; receipts of imports
and erasures; usage; searches that members keep for themselves.
Nothing in here is encrypted: keep this where the workspace itself could be kept.

Into another installation:  manage.py import_tenant PATH --slug NEW
Requests to generate, members, webhooks, saved searches and the audit log are written here and not read there. What was
generated stays marked as such, in its asset and in its file.
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
