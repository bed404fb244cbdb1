"""The process that reads a stranger's Parquet file, of which nothing but rows as JSON reaches its parent.

Run by its path as ``python -P parquet_child.py DESCRIPTOR LIMITS`` by ``parquet.py``: it imports nothing of this
package. It writes lines of JSON: first the columns and counts, then, for each line of its input that names what is
wanted, a line a row, followed by the bytes of its file. Address space and processor time are limited, and
``ml.sandbox`` leaves it no other file, no network and no other process: what a hostile file breaks dies with it.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import json
import math
import os
import resource
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from ml import sandbox

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

MAX_DEPTH = 10


def main(descriptor: int, limits: dict[str, int]) -> None:
    """Tell the columns, wait for what is wanted, give the rows."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=1 << 16)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    source = _source(descriptor)
    sandbox.confine("table", load=_load)
    _limit(limits["memory"])
    try:
        file = _open(source, limits)
        _line(answers, _describe(file))
        for line in sys.stdin.buffer:
            for header, content in Rows(file, json.loads(line), limits):
                _row(answers, header, content, limits["row"])
            _line(answers, {"end": True})
    except MemoryError:
        _line(answers, {"fatal": "Reading it needs more memory than allowed."})
    except Exception as error:  # pyarrow's exceptions are many; all mean that the file cannot be read
        _line(answers, {"fatal": f"It cannot be read: {_describe_error(error)}"})


def _source(descriptor: int) -> pa.OSFile:
    """The file, opened and not looked at."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    return pa.OSFile(f"/proc/self/fd/{descriptor}")


def _load() -> None:
    """Import what reading may need: afterwards no file has to be opened."""
    import zoneinfo

    from pyarrow import parquet  # noqa: F401

    zoneinfo.ZoneInfo("UTC")


def _open(source: pa.OSFile, limits: dict[str, int]) -> parquet.ParquetFile:
    from pyarrow import parquet

    _arm(limits["cpu_s"])
    # Signed at 2**63 the counts of a footer may say anything; strings and lists in it are bounded by its own size.
    return parquet.ParquetFile(
        source,
        pre_buffer=False,
        buffer_size=1 << 18,
        page_checksum_verification=True,
        thrift_string_size_limit=1 << 26,
        thrift_container_size_limit=1 << 22,
    )


def _describe(file: parquet.ParquetFile) -> dict[str, object]:
    groups = range(file.metadata.num_row_groups)
    counts = [max(0, file.metadata.row_group(at).num_rows) for at in groups]
    return {"columns": [name for name, _ in _columns(file.schema_arrow)], "groups": counts}


def _columns(schema: pa.Schema) -> Iterator[tuple[str, str]]:
    """Names as rows have them, and the kind of each: file, struct (flattened) or value."""
    from pyarrow import types

    for field in schema:
        if _is_file(field.type):
            yield field.name, "file"
        elif types.is_struct(field.type) and _is_flat(field.type):
            yield from ((f"{field.name}.{one.name}", "struct") for one in _fields(field.type))
        else:
            yield field.name, "value"


def _is_file(kind: pa.DataType) -> bool:
    """Bytes, or Hugging Face's {bytes, path}."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_struct(kind):
        names = {field.name: field.type for field in _fields(kind)}
        return set(names) == {"bytes", "path"} and _is_file(names["bytes"])
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _is_flat(kind: pa.DataType) -> bool:
    from pyarrow import types

    return all(not types.is_nested(field.type) and not _is_file(field.type) for field in _fields(kind))


def _fields(kind: pa.DataType) -> list[pa.Field]:
    return [kind.field(at) for at in range(kind.num_fields)]


class Rows:
    """Headers and file bytes of the rows after ``after``; a damaged row group is one header with an error."""

    def __init__(self, file: parquet.ParquetFile, request: dict[str, Any], limits: dict[str, int]) -> None:
        self._file, self._limits = file, limits
        self._wanted, self._after = request["file"], request["after"]
        self._most = request["most"]
        self._kinds = dict(_columns(file.schema_arrow))

    def __iter__(self) -> Iterator[tuple[dict[str, object], bytes]]:
        first = 1
        for group in range(self._file.metadata.num_row_groups):
            last = first + max(0, self._file.metadata.row_group(group).num_rows) - 1
            if self._most is not None and first > self._after + self._most:
                return
            if last > self._after:
                yield from self._group(group, first, last)
            first = last + 1

    def _group(self, group: int, first: int, last: int) -> Iterator[tuple[dict[str, object], bytes]]:
        row = first
        try:
            for values in self._values(group):
                if self._most is not None and row > self._after + self._most:
                    return
                if row > self._after:
                    yield self._header(row, values)
                row += 1
        except MemoryError:
            raise
        except (OSError, ValueError, NotImplementedError, TypeError, KeyError, RuntimeError) as error:
            yield {"row": max(row, self._after + 1), "last": last, "error": _describe_error(error)}, b""
        else:
            if row <= last:
                yield {"row": max(row, self._after + 1), "last": last, "error": "rows are missing"}, b""

    def _values(self, group: int) -> Iterator[dict[str, object] | Exception]:
        for batch in self._file.iter_batches(
            batch_size=self._batch(group), row_groups=[group], use_threads=False
        ):
            _arm(self._limits["cpu_s"])
            batch = _in_microseconds(batch)
            # In slices: the whole batch as Python objects would take a multiple of its size.
            for at in range(0, batch.num_rows, self._limits["slice"]):
                yield from _objects(batch.slice(at, self._limits["slice"]))

    def _batch(self, group: int) -> int:
        data = self._file.metadata.row_group(group)
        size = max(1, data.total_byte_size) / max(1, data.num_rows)
        return int(max(1, min(self._limits["batch_rows"], self._limits["batch"] / size)))

    def _header(self, row: int, values: dict[str, object] | Exception) -> tuple[dict[str, object], bytes]:
        try:
            if isinstance(values, Exception):
                raise values
            return self._encoded(row, values)
        except (ValueError, OverflowError, ArithmeticError) as error:
            return {"row": row, "error": f"A value in it cannot be read: {_describe_error(error)}."}, b""

    def _encoded(self, row: int, raw: dict[str, object]) -> tuple[dict[str, object], bytes]:
        values: dict[str, object] = {}
        files: dict[str, str] = {}
        content = b""
        for name, value in raw.items():
            if self._kinds.get(name) == "file":
                found, path = _file_of(value)
                if found is not None or path:
                    files[name] = path
                if name == self._wanted and found is not None:
                    content = found
            elif name in self._kinds:
                values[name] = _plain(value)
            else:
                # A struct, or nothing.
                parts = value if isinstance(value, dict) else {}
                values |= {f"{name}.{key}": _plain(one) for key, one in parts.items()}
        if error := self._too_long(values, content):
            return {"row": row, "error": error}, b""
        return {"row": row, "values": values, "files": files, "size": len(content)}, content

    def _too_long(self, values: dict[str, object], content: bytes) -> str:
        if len(content) > self._limits["file"]:
            return f"The file in it is larger than {self._limits['file']:,} bytes."
        for name, value in values.items():
            if isinstance(value, str) and len(value) > self._limits["cell"]:
                return f'The cell of "{name[:60]}" holds more than {self._limits["cell"]:,} characters.'
        return ""


def _objects(rows: pa.RecordBatch) -> Iterator[dict[str, object] | Exception]:
    """Rows as Python objects; one by one where a value (a date of the year 12000, say) is none."""
    try:
        yield from rows.to_pylist()
    except (ValueError, OverflowError, ArithmeticError) as error:
        if rows.num_rows == 1:
            yield error
            return
        for at in range(rows.num_rows):
            yield from _objects(rows.slice(at, 1))


def _in_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Python's moments have no nanoseconds."""
    import pyarrow as pa

    fields = [field.with_type(_coarser(field.type)) for field in batch.schema]
    schema = pa.schema(fields)
    return batch if schema.equals(batch.schema) else batch.cast(schema, safe=False)


def _coarser(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa
    from pyarrow import types

    if types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if types.is_time64(kind) and kind.unit == "ns":
        return pa.time64("us")
    if types.is_struct(kind):
        return pa.struct([field.with_type(_coarser(field.type)) for field in _fields(kind)])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_coarser(kind.value_type)))
    return kind


def _file_of(value: object) -> tuple[bytes | None, str]:
    if isinstance(value, dict):
        return value.get("bytes"), str(value.get("path") or "")
    return value if isinstance(value, bytes) else None, ""


def _plain(value: object, depth: int = 0) -> object:
    """As JSON has it: moments in ISO 8601, decimals as numbers, bytes as base64, not-a-number as null."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, decimal.Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return _plain_nested(value, depth)


def _plain_nested(value: object, depth: int) -> object:
    if depth >= MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        return {str(key): _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    return str(value)


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _arm(cpu_s: int) -> None:
    """Allow so much processor time from now: for the opening, then for each batch."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(used.ru_utime + used.ru_stime) + cpu_s
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))


def _line(stream: BinaryIO, message: dict[str, object]) -> None:
    stream.write(json.dumps(message).encode() + b"\n")
    stream.flush()


def _row(stream: BinaryIO, header: dict[str, object], content: bytes, limit: int) -> None:
    line = json.dumps(header).encode()
    if len(line) > limit:
        line, content = json.dumps({"row": header["row"], "error": "The row is too long."}).encode(), b""
    stream.write(line + b"\n")
    stream.write(content)


def _describe_error(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))
