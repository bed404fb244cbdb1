"""Feature shards: pairs of picture and text as the frozen encoders saw them, Parquet, written and read as a stream.

One row a picture with all its captions. Numbers are float16: the encoders' INT8 noise is far above that. Files are
read row group by row group from any URL, so data need not fit memory or disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ml.training.plan import TrainingError
from ml.training.sources import open_url

#: Rows of a row group: what a reader holds at once (some 2 MB).
ROWS_A_GROUP = 256
ROWS_A_FILE = 8_192
#: Marks a Parquet file as feature shard; its value is ``encoders_key``.
MARK = b"crosslight.encoders"

Halves = NDArray[np.float16]
#: Columns with one vector a row, and with one vector a caption.
_ROW_VECTORS = ("probabilities", "features", "colours")
_CAPTION_VECTORS = ("text", "text_colours")


@dataclass(frozen=True, slots=True)
class Pair:
    """One picture with its captions. ``split`` is train, val, test or empty (then decided by the group's hash)."""

    key: str
    group: str
    split: str
    captions: tuple[str, ...]  #: c of them, at least one
    text: Halves  #: [c, 384] what the text tower says
    text_colours: Halves  #: [c, 11]
    probabilities: Halves  #: [1000]
    features: Halves  #: [F], F may be 0
    colours: Halves  #: [11]


class ShardWriter:
    """Writes pairs into ``folder/part-00000.parquet``, …; a file appears under its name when it is whole.

    >>> with ShardWriter(folder, encoders_key="…") as writer:
    ...     writer.add(pair)
    """

    def __init__(self, folder: Path, encoders_key: str, rows_a_file: int = ROWS_A_FILE) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.encoders_key, self.rows_a_file = folder, encoders_key, rows_a_file
        self.paths: list[Path] = []
        self.rows = 0
        self._waiting: list[Pair] = []
        self._file: Any = None
        self._in_file = 0

    def add(self, pair: Pair) -> None:
        """Queue one pair; every ROWS_A_GROUP-th call writes."""
        self._waiting.append(pair)
        self.rows += 1
        if len(self._waiting) >= ROWS_A_GROUP:
            self._flush()

    def close(self) -> None:
        """Write what waits and finish the last file."""
        self._flush()
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        # After an error what was half written stays without a name.
        if kind is None:
            self.close()
        elif self._file is not None:
            self._file.close()

    @property
    def _path(self) -> Path:
        return self.folder / f"part-{len(self.paths):05d}.parquet"

    def _flush(self) -> None:
        import pyarrow.parquet

        if not self._waiting:
            return
        table = _table(self._waiting, self.encoders_key)
        if self._file is None:
            # Neither compressing nor looking for repetitions gains anything on noise.
            options: dict[str, Any] = {
                "compression": "none",
                "use_dictionary": False,
                "write_statistics": False,
            }
            self._file = pyarrow.parquet.ParquetWriter(_part(self._path), table.schema, **options)
        self._file.write_table(table)
        self._in_file += len(self._waiting)
        self._waiting = []
        if self._in_file >= self.rows_a_file:
            self._finish()

    def _finish(self) -> None:
        if self._file is None:
            return
        self._file.close()
        _part(self._path).replace(self._path)
        self.paths.append(self._path)
        self._file, self._in_file = None, 0


class PairStream:
    """The pairs of several shards, in the order of files and rows. Iterating starts anew each time."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = list(urls)

    def __iter__(self) -> Iterator[Pair]:
        for url in self.urls:
            yield from _pairs_of(url)

    def encoders_key(self) -> str | None:
        """What encoded the first shard, None without shards. Raises TrainingError(``mixed_encoders``)."""
        keys = {shard_encoders_key(url) for url in self.urls}
        if len(keys) > 1:
            raise TrainingError(
                "mixed_encoders", "The shards were made by different encoders; extract them anew."
            )
        return keys.pop() if keys else None


def read_pairs(urls: Sequence[str]) -> PairStream:
    """The pairs behind ``urls`` (files or folders of feature shards, local or in a bucket)."""
    from ml.training.sources import expand

    return PairStream(expand(urls, ".parquet"))


def shard_encoders_key(url: str) -> str | None:
    """``encoders_key`` of a feature shard, None for any other Parquet file. Raises TrainingError(``unreadable``)."""
    with _Opened(url) as file:
        metadata = file.schema_arrow.metadata or {}
        return metadata[MARK].decode() if MARK in metadata else None


def _pairs_of(url: str) -> Iterator[Pair]:
    with _Opened(url) as file:
        if MARK not in (file.schema_arrow.metadata or {}):
            raise TrainingError("unreadable", f"{url} is no feature shard; extract it first.")
        for index in range(file.num_row_groups):
            try:
                columns = _columns(file.read_row_group(index))
            except (OSError, ValueError, KeyError) as error:
                raise TrainingError("unreadable", f"{url}, row group {index}: {error}") from error
            yield from _rows(columns)


class _Opened:
    """A Parquet file behind a URL, closed at the end; what cannot be opened is a TrainingError."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __enter__(self) -> Any:
        import pyarrow
        import pyarrow.parquet

        try:
            self._source = open_url(self.url)
            self._file = pyarrow.parquet.ParquetFile(self._source)
        except (OSError, pyarrow.ArrowException) as error:
            raise TrainingError("unreadable", f"{self.url} cannot be read: {error}") from error
        return self._file

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._source.close()


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _table(pairs: Sequence[Pair], encoders_key: str) -> Any:
    import pyarrow as pa

    columns: dict[str, Any] = {
        name: [getattr(pair, name) for pair in pairs] for name in ("key", "group", "split")
    }
    columns["captions"] = pa.array([list(pair.captions) for pair in pairs], pa.list_(pa.string()))
    offsets = pa.array(np.cumsum([0, *(len(pair.captions) for pair in pairs)]), pa.int32())
    for name in _CAPTION_VECTORS:
        rows = np.concatenate([getattr(pair, name) for pair in pairs])
        columns[name] = pa.ListArray.from_arrays(offsets, _vectors(rows))
    for name in _ROW_VECTORS:
        columns[name] = _vectors(np.stack([getattr(pair, name) for pair in pairs]))
    return pa.table(columns).replace_schema_metadata({MARK: encoders_key.encode()})


def _vectors(rows: NDArray[Any]) -> Any:
    """Vectors as bytes: Parquet's own lists of numbers take twenty times as long to read."""
    import pyarrow as pa

    halves = np.ascontiguousarray(rows, np.dtype("<f2"))
    if not rows.shape[1]:
        return pa.array([b""] * len(rows), pa.binary())
    width = halves.itemsize * rows.shape[1]
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(halves)])


def _columns(table: Any) -> dict[str, Any]:
    found: dict[str, Any] = {name: table[name].to_pylist() for name in ("key", "group", "split", "captions")}
    for name in _ROW_VECTORS:
        found[name] = _matrix(table[name].combine_chunks())
    for name in _CAPTION_VECTORS:
        lists = table[name].combine_chunks()
        found[name] = _matrix(lists.flatten())
    return found


def _matrix(array: Any) -> Halves:
    import pyarrow as pa

    if array.null_count:
        raise ValueError("a vector is missing")
    if pa.types.is_binary(array.type):
        return np.empty((len(array), 0), np.float16)
    if not pa.types.is_fixed_size_binary(array.type):
        raise ValueError(f"vectors are of the type {array.type}: encode the pairs anew")
    start = array.offset * array.type.byte_width
    content = np.frombuffer(array.buffers()[1], np.uint8)[start:][: len(array) * array.type.byte_width]
    return content.view("<f2").reshape(len(array), -1)


def _rows(columns: dict[str, Any]) -> Iterator[Pair]:
    start = 0
    for row, captions in enumerate(columns["captions"]):
        end = start + len(captions)
        yield Pair(
            columns["key"][row],
            columns["group"][row],
            columns["split"][row],
            tuple(captions),
            columns["text"][start:end],
            columns["text_colours"][start:end],
            *(columns[name][row] for name in _ROW_VECTORS),
        )
        start = end


def stack(pairs: Iterable[Pair], name: str) -> NDArray[np.float32]:
    """One column of several pairs as float32: [n, d], or for text and text_colours [all captions, d]."""
    rows = [getattr(pair, name) for pair in pairs]
    together = np.concatenate(rows) if name in _CAPTION_VECTORS else np.stack(rows)
    return together.astype(np.float32)
