"""Rows of an import in batches: read into entries, prepared in a pool, cleared from disk."""

from __future__ import annotations

import contextvars
import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO

from django.conf import settings

from ml.media import TRANSIENT, MediaError
from ml.passages import passages, segment_of
from tenants.datasets import importers
from tenants.datasets.filenames import clean_filename
from tenants.datasets.models import Asset
from tenants.errors import Invalid, ServiceError, StorageFull, Unavailable
from tenants.pipeline.assets.bulk import DERIVED, Entry
from tenants.pipeline.assets.prepared import Prepared, Source
from tenants.pipeline.assets.preparing import prepare
from tenants.pipeline.assets.uploads import MAX_CAPTIONS, Upload, check_external_id, check_upload
from tenants.retrieval import query

log = logging.getLogger(__name__)

# A batch is full at this weight: many texts, some pictures, or one film.
FULL = 256
WEIGHTS = {
    Asset.Modality.TEXT: 1,
    Asset.Modality.IMAGE: 16,
    Asset.Modality.AUDIO: FULL,
    Asset.Modality.VIDEO: FULL,
}
DOCUMENT_WEIGHT = FULL // 4
TEXTS_AT_ONCE = 32


class Batch:
    """Entries in the order of their rows, and the files that they were read into.

    `alone` marks a single row after an attempt that died.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self.alone = alone
        self.entries: list[Entry] = []
        self._paths: list[Path] = []
        self._streams: list[IO[bytes]] = []
        self._futures: list[Future[float]] = []
        self.weight = 0

    def add(self, item: importers.Item, folder: Path) -> None:
        """Read an item; whatever is wrong with it becomes the entry's outcome."""
        entry = Entry(row=item.row, name=item.name, record=item.record)
        self.entries.append(entry)
        try:
            self._fill(entry, item, folder)
        except (Unavailable, StorageFull):
            # Not this row's fault: the attempt ends here and another goes on.
            raise
        except ServiceError as error:
            entry.fail(error.detail)
        self.weight += self._weight_of(entry)

    def _weight_of(self, entry: Entry) -> int:
        if not entry.open or entry.upload is None or self._continues_item(entry):
            return 1
        return DOCUMENT_WEIGHT if entry.upload.is_document else WEIGHTS[Asset.Modality(entry.upload.modality)]

    def _continues_item(self, entry: Entry) -> bool:
        """Whether the row before is about the same file and id, so that their captions come together."""
        before = self.entries[-2] if len(self.entries) > 1 else None
        return (
            before is not None
            and before.upload is not None
            and entry.upload is not None
            and (before.external_id, before.upload.sha256) == (entry.external_id, entry.upload.sha256)
        )

    def takes(self, item: importers.Item) -> bool:
        """Whether there is room for an item, or it may belong to the last row's asset: captions that stand together
        are embedded together."""
        if self.weight < FULL:
            return True
        last = self.entries[-1].external_id
        return bool(item.external_id) and item.external_id == last and self.weight < FULL + MAX_CAPTIONS

    def _fill(self, entry: Entry, item: importers.Item, folder: Path) -> None:
        if item.error:
            raise Invalid(item.error)
        entry.values = item.metadata
        stream = self._saved(item, folder / f"row-{item.row}") if item.save else None
        filename = clean_filename(item.file_name)
        entry.upload = check_upload(stream, item.text, captions=item.captions, filename=filename)
        if stream and not _is_plain(entry.upload):
            entry.path = Path(stream.name)
        external_id = check_external_id(item.external_id)
        entry.external_id, entry.has_id = external_id or _derived_id(entry), external_id is not None

    def _saved(self, item: importers.Item, path: Path) -> IO[bytes]:
        if item.save is None:
            raise RuntimeError(f"row {item.row} has no file")
        self._paths.append(path)
        item.save(path, settings.MAX_UPLOAD_BYTES)
        stream = path.open("rb")
        self._streams.append(stream)
        return stream

    def prepare(self, pool: ThreadPoolExecutor, spaces: query.Spaces) -> None:
        """Start decoding and encoding the entries that become assets, for the models of these spaces."""
        entries = [entry for entry in self.entries if entry.wanted]
        for entry in entries:
            entry.spaces = spaces
        texts = [e for e in entries if e.upload and _is_plain(e.upload)]
        for start in range(0, len(texts), TEXTS_AT_ONCE):
            self._futures.append(pool.submit(_prepare_texts, texts[start : start + TEXTS_AT_ONCE]))
        for entry in entries:
            if entry.upload and not _is_plain(entry.upload):
                context = contextvars.copy_context()  # for whom it is done
                self._futures.append(pool.submit(context.run, _prepare_file, entry))

    def finish(self) -> float:
        """Wait until all is prepared; returns the cpu seconds that it took."""
        return sum(future.result() for future in self._futures)

    def clear(self) -> None:
        """Close and remove what was read; storage has taken over what was imported."""
        for stream in self._streams:
            stream.close()
        for path in self._paths:
            for left in (path, path.with_name(f"{path.name}.clean")):
                left.unlink(missing_ok=True)


def read_batches(items: Iterator[importers.Item], folder: Path, *, alone: int) -> Iterator[Batch]:
    """The first `alone` items one by one, then batches of a bounded weight."""
    batch = Batch(alone=alone > 0)
    for number, item in enumerate(items, 1):
        if batch.entries and not batch.takes(item):
            yield batch
            batch = Batch()
        batch.add(item, folder)
        if batch.alone:
            yield batch
            batch = Batch(alone=number < alone)
    if batch.entries:
        yield batch


def prepare_again(entries: Sequence[Entry], spaces: query.Spaces) -> float:
    """Those that become assets, for other models than before, one after the other; returns cpu seconds."""
    spent = 0.0
    for entry in entries:
        if entry.wanted and entry.upload:
            entry.spaces = spaces
            is_text = _is_plain(entry.upload)
            spent += _prepare_texts([entry]) if is_text else _prepare_file(entry)
    return spent


def _is_plain(upload: Upload) -> bool:
    """A text that is its own content, which needs no file."""
    return upload.modality == Asset.Modality.TEXT and not upload.is_document


def _derived_id(entry: Entry) -> str:
    """An id for a row that has none: the same content, caption and metadata give the same one again."""
    upload = entry.content
    parts = [upload.sha256, upload.caption, entry.values]
    if others := upload.captions[1:]:
        parts.append(others)
    canonical = json.dumps(parts, sort_keys=True, ensure_ascii=True, default=str)
    return f"{DERIVED}{hashlib.sha256(canonical.encode()).hexdigest()[:40]}"


def _prepare_texts(entries: Sequence[Entry]) -> float:
    """Encode the passages of several texts in one call; returns cpu seconds."""
    start = time.thread_time()
    texts = [entry.upload.text if entry.upload else "" for entry in entries]
    cuts = [(at, cut) for at, entry in enumerate(entries) if entry.upload for cut in passages(texts[at])]
    encoded = query.place_texts([texts[at][a:b] for at, (a, b) in cuts], entries[0].spaces)
    prepared = [Prepared(entry.spaces) for entry in entries]
    for (at, (first, last)), costed in zip(cuts, encoded, strict=True):
        prepared[at].add("text", costed, segment_of(texts[at], first, last))
    for entry, made in zip(entries, prepared, strict=True):
        entry.prepared = made
    return time.thread_time() - start


def _prepare_file(entry: Entry) -> float:
    """Decode and encode a file; returns the cpu seconds that it took, also in vain."""
    tries = Prepared(entry.spaces), Prepared(entry.spaces)
    try:
        entry.prepared = _with_second_try(entry, *tries)
    except MediaError as error:
        entry.fail(f"{error.code}: {error.message}")
    except Exception:
        # One row that meets a fault of ours must not lose the others.
        log.exception("row could not be prepared", extra={"row": entry.row})
        entry.fail("internal error: this row could not be read; the worker's log has the details")
    return sum(prepared.cpu_s for prepared in tries)


def _with_second_try(entry: Entry, first: Prepared, second: Prepared) -> Prepared:
    source = _source(entry)
    try:
        return prepare(source, first, in_bulk=True)
    except MediaError as error:
        if error.code not in TRANSIENT:
            raise
        return prepare(source, second, in_bulk=True)


def _source(entry: Entry) -> Source:
    upload, path = entry.content, entry.path
    if path is None:
        raise RuntimeError(f"row {entry.row} has no file")
    return Source(
        upload.modality,
        captions=upload.captions,
        path=path,
        folder=path.parent,
        media_type=upload.media_type,
    )
