"""Reading an export that anybody may have made: nothing of it is believed before it was checked.

Only names that the layout knows are ever opened, whatever else lies there. Every file has the length and digest that
the manifest says, and the manifest those that the header says, before a single row is used. Memory stays flat: lines
are read with a limit, and the manifest must be sorted, so that duplicates show themselves.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.utils.translation import gettext as _

from tenants import age
from tenants.datasets.storage import CHUNK
from tenants.errors import Invalid
from tenants.moderation.record import signatures
from tenants.pipeline.transfer import export_layout as layout
from tenants.retrieval.model_routing import MAX_DIMENSION

MAX_HEADER = 1 << 20
# Ed25519 (RFC 8032).
SIGNATURE_BYTES = 64
MAX_LINE = 8 << 20
# Decompressed; Parquet of ours has 500 vectors a group.
MAX_GROUP_BYTES = 256 << 20
VECTORS_AT_ONCE = 1000
NEEDED = ("assets.jsonl", "blobs.jsonl", "datasets.jsonl")
_SHA = re.compile(r"[0-9a-f]{64}")


class Source(Protocol):
    def open(self, name: str) -> IO[bytes]:
        """The file of this name from its start. Raises Invalid if there is none or it is no plain file."""
        ...

    def close(self) -> None: ...


class FolderSource:
    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def open(self, name: str) -> IO[bytes]:
        path = self.folder / name
        # Resolved: a link on the way must not lead elsewhere.
        if path.resolve() != path or not path.is_file():
            raise Invalid(_("%(name)s is missing, or is not a plain file.") % {"name": name})
        return path.open("rb")

    def close(self) -> None:
        """Nothing is held open."""


class ZipSource:
    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)

    def open(self, name: str) -> IO[bytes]:
        try:
            entry = self.archive.getinfo(name)
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise NotImplementedError
            return self.archive.open(entry)
        except (KeyError, RuntimeError, NotImplementedError) as error:
            raise Invalid(
                _("%(name)s is missing, encrypted or packed in an unknown way.") % {"name": name}
            ) from error

    def close(self) -> None:
        self.archive.close()


class ExportFile:
    """An export that has been checked; see `open_export`."""

    def __init__(
        self, source: Source, header: Mapping[str, Any], tables: Collection[str], signed_by: str = ""
    ) -> None:
        """`signed_by` is the public key in PEM whose signature fits; empty for an export of 0.2 or before."""
        self.source, self.header, self.tables, self.signed_by = source, header, tables, signed_by

    @property
    def slug(self) -> str:
        return self.header["tenant"]["slug"]

    @property
    def name(self) -> str:
        return self.header["tenant"]["name"]

    def rows(self, name: str, check: Callable[[Any], Any]) -> Iterator[Any]:
        """What `check` makes of each line of a table. Raises Invalid and names the line."""
        if name not in self.tables:
            return
        with self.source.open(name) as stream:
            for number, line in enumerate(_lines(stream, name), 1):
                try:
                    yield check(_object(line))
                except Invalid as error:
                    raise Invalid(
                        _("%(name)s, line %(number)s: %(detail)s")
                        % {"name": name, "number": number, "detail": error.detail}
                    ) from error

    def vectors(self) -> Iterator[list[dict[str, Any]]]:
        """The vectors, some at a time, each with `vector` as float32 [d] of norm 1."""
        if layout.VECTORS not in self.tables:
            return
        with self._local(layout.VECTORS) as path:
            yield from _vectors(path)

    @contextmanager
    def _local(self, name: str) -> Iterator[Path]:
        """A copy that can be read from any place, as Parquet is."""
        with tempfile.NamedTemporaryFile(dir=settings.SPOOL_DIR, prefix="import-") as copy:
            with self.source.open(name) as stream:
                shutil.copyfileobj(stream, copy, CHUNK)
            copy.flush()
            yield Path(copy.name)


@contextmanager
def open_export(path: Path, private_keys: Sequence[str] = ()) -> Iterator[ExportFile]:
    """A folder or zip file with an export, every digest checked, and the signature where it has one.

    An encrypted file is opened by `private_keys` of age, into the spool. Raises Invalid and says what is wrong.
    """
    with _plain(path, private_keys) as plain:
        try:
            source: Source = FolderSource(plain) if plain.is_dir() else ZipSource(plain)
        except (OSError, zipfile.BadZipFile) as error:
            raise Invalid(
                _("%(path)s is neither a folder nor a zip file that can be read.") % {"path": path}
            ) from error
        try:
            raw = _read_raw_header(source)
            header = _checked_header(raw)
            signed_by = _check_signature(source, raw, header)
            yield ExportFile(source, header, _check_manifest(source, header), signed_by)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise Invalid(_("%(path)s is damaged: %(error)s") % {"path": path, "error": error}) from error
        finally:
            source.close()


@contextmanager
def _plain(path: Path, private_keys: Sequence[str]) -> Iterator[Path]:
    """The path itself, or of an encrypted file what it holds."""
    if not path.is_file() or not _is_encrypted(path):
        yield path
        return
    if not private_keys:
        raise Invalid(
            _("%(path)s is encrypted with age: name a file with the private key by --identity.")
            % {"path": path}
        )
    with tempfile.NamedTemporaryFile(dir=settings.SPOOL_DIR, prefix="import-") as copy:
        try:
            with path.open("rb") as source:
                age.decrypt(source, copy, private_keys)
        except age.CannotOpen as error:
            raise Invalid(
                _("%(path)s cannot be opened: it is for another key, damaged or cut off (%(error)s).")
                % {"path": path, "error": error}
            ) from error
        copy.flush()
        yield Path(copy.name)


def _is_encrypted(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(age.MAGIC)) == age.MAGIC


def _read_raw_header(source: Source) -> bytes:
    with source.open(layout.HEADER) as stream:
        return stream.read(MAX_HEADER + 1)


def _check_signature(source: Source, raw: bytes, header: Mapping[str, Any]) -> str:
    """The public key in PEM of whoever signed; empty where the header names nobody."""
    key = _dict(header.get("signed_by")).get("public_key")
    if "signed_by" not in header:
        return ""
    with source.open(layout.SIGNATURE) as stream:
        signature = stream.read(SIGNATURE_BYTES + 1)
    if not isinstance(key, str) or not signatures.fits(raw, signature, key):
        raise Invalid(
            _("The signature does not fit %(header)s: one of them was changed.") % {"header": layout.HEADER}
        )
    return key


def _checked_header(raw: bytes) -> dict[str, object]:
    header = _object(raw) if len(raw) <= MAX_HEADER else {}
    if header.get("format") != layout.FORMAT or header.get("version") != layout.VERSION:
        raise Invalid(
            _("%(header)s does not say %(format)s, version %(version)s.")
            % {"header": layout.HEADER, "format": layout.FORMAT, "version": layout.VERSION}
        )
    tenant, counts = header.get("tenant"), header.get("counts")
    named = isinstance(tenant, dict) and all(isinstance(tenant.get(key), str) for key in ("slug", "name"))
    if not named or not isinstance(counts, dict) or any(type(n) is not int or n < 0 for n in counts.values()):
        raise Invalid(_("%(header)s lacks the tenant or the counts.") % {"header": layout.HEADER})
    _check_entry({"path": layout.MANIFEST, **_dict(header.get("manifest"))})
    return header


def _dict(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


def _check_entry(entry: Mapping[str, Any]) -> None:
    sized = type(entry.get("bytes")) is int and entry["bytes"] >= 0
    if not sized or not isinstance(entry.get("sha256"), str) or not _SHA.fullmatch(entry["sha256"]):
        raise Invalid(
            _("The length or digest of %(value)s is not given.")
            % {"value": f"{str(entry.get('path'))[:200]!r}"}
        )


def _check_manifest(source: Source, header: Mapping[str, Any]) -> dict[str, int]:
    """Check every file against the manifest; returns the tables that are there, each with its number of lines."""
    _check_file(source, {"path": layout.MANIFEST, **header["manifest"]})
    tables, last = {}, ""
    with source.open(layout.MANIFEST) as stream:
        for line in _lines(stream, layout.MANIFEST):
            entry = _object(line)
            name = entry.get("path")
            if not isinstance(name, str) or not layout.is_known(name):
                raise Invalid(
                    _("The manifest names %(value)s, which is no file of an export.")
                    % {"value": f"{str(name)[:200]!r}"}
                )
            if name <= last:
                raise Invalid(
                    _("The manifest is not sorted at %(name)s, or names it twice.") % {"name": f"{name!r}"}
                )
            lines = _check_file(source, entry)
            last = name
            if layout.file_of(name) is None:
                tables[name] = lines
    if missing := [name for name in NEEDED if name not in tables]:
        raise Invalid(_("The manifest lacks %(names)s.") % {"names": ", ".join(missing)})
    for name in layout.TABLES.keys() & tables.keys():
        if header["counts"].get(name) != tables[name]:
            raise Invalid(
                _("%(name)s has %(value)s lines, and not as many as %(header)s counts.")
                % {"name": name, "value": tables[name], "header": layout.HEADER}
            )
    return tables


def _check_file(source: Source, entry: Mapping[str, Any]) -> int:
    """Whether a file is what its entry says; returns its number of lines."""
    _check_entry(entry)
    name, sha, length, lines = entry["path"], hashlib.sha256(), 0, 0
    with source.open(name) as stream:
        while chunk := stream.read(CHUNK):
            sha.update(chunk)
            length += len(chunk)
            lines += chunk.count(b"\n")
            if length > entry["bytes"]:
                # Not read on: what unpacks without end must not keep us.
                break
    if length != entry["bytes"] or sha.hexdigest() != entry["sha256"]:
        raise Invalid(
            _("%(name)s is not what the manifest says: it was damaged or changed.") % {"name": name}
        )
    stored = layout.file_of(name)
    if stored and stored[0] == "original" and stored[1] != entry["sha256"]:
        raise Invalid(_("%(name)s does not hold the content that its name says.") % {"name": name})
    return lines


def _lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE:
            raise Invalid(
                _("%(name)s has a line of more than %(size)s MiB.") % {"name": name, "size": MAX_LINE >> 20}
            )
        yield line


def _object(line: bytes) -> dict[str, object]:
    try:
        found = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(_("This is not a JSON object in UTF-8.")) from error
    if not isinstance(found, dict):
        raise Invalid(_("This is not a JSON object in UTF-8."))
    return found


def _no_constant(name: str) -> None:
    raise ValueError(name)


def _vectors(path: Path) -> Iterator[list[dict[str, Any]]]:
    try:
        table = pq.ParquetFile(path)
        if not _has_its_columns(table.schema_arrow):
            raise Invalid(
                _("%(vectors)s has other columns than %(names)s.")
                % {"vectors": layout.VECTORS, "names": ", ".join(layout.VECTOR)}
            )
        for group in range(table.num_row_groups):
            if table.metadata.row_group(group).total_byte_size > MAX_GROUP_BYTES:
                raise Invalid(
                    _("%(vectors)s has a row group that is too large.") % {"vectors": layout.VECTORS}
                )
        for batch in table.iter_batches(VECTORS_AT_ONCE):
            yield _unpacked(batch)
    except (pa.ArrowException, OSError) as error:
        raise Invalid(
            _("%(vectors)s cannot be read: %(value)s")
            % {"vectors": layout.VECTORS, "value": str(error)[:200]}
        ) from error


def _has_its_columns(schema: pa.Schema) -> bool:
    dimension = 0
    if "vector" in schema.names and pa.types.is_fixed_size_list(lists := schema.field("vector").type):
        dimension = lists.list_size
    return bool(schema.equals(layout.vector_schema(dimension), check_metadata=False))


def _unpacked(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    column = batch.column("vector")
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    values = column.flatten().to_numpy(zero_copy_only=False)
    if column.null_count or not _are_units(values, lengths):
        raise Invalid(_("%(vectors)s holds something that is no unit vector.") % {"vectors": layout.VECTORS})
    vectors = np.split(values, np.cumsum(lengths)[:-1]) if len(lengths) else []
    rows = batch.select(layout.VECTOR[:-1]).to_pylist()
    return [{**row, "vector": vector} for row, vector in zip(rows, vectors, strict=True)]


def _are_units(values: np.ndarray, lengths: np.ndarray) -> bool:
    """Whether vectors of these lengths, one after the other in ``values``, all have norm 1."""
    if not len(lengths):
        return True
    if lengths.min() < 1 or lengths.max() > MAX_DIMENSION:
        return False
    squares = np.add.reduceat(np.square(values, dtype=np.float64), np.cumsum(lengths) - lengths)
    return bool(np.all(np.abs(np.sqrt(squares) - 1) < 1e-3))
