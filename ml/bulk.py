"""Vectors of the texts and pictures of a manifest, made on a Ray cluster: ``python -m ml.bulk FOLDER``.

Reading and decoding runs on actors without a card, encoding on actors with one where the cluster has any. The process
is a child of whoever wants the vectors, gets neither credentials of a database nor of a storage, and opens what the
manifest names and nothing else. In its folder lie ``task.json`` (`Task`), ``manifest.parquet`` (`MANIFEST`) and, for a
space that does not ship, ``space/``. It writes ``part-N.parquet`` (`PART`) and prints a line of JSON for each, which
the reader then removes: it never writes more than `AHEAD` that nobody has read.

Ray makes again what is lost with a node, so that every row of the manifest is answered, with vectors or with an error;
a reader that goes by ``id`` takes each once.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import IO, TYPE_CHECKING, Any, Required, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from ml.media import TRANSIENT, Decoder, FairQueue, MediaError
from ml.passages import passages, segment_of

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

log = logging.getLogger(__name__)

TASK, MANIFEST_FILE, SPACE = "task.json", "manifest.parquet", "space"
# Rows of a block, which one actor decodes at a time: a picture is 3 MB of pixels. Rows of a part.
BLOCK, ROWS = 32, 256
# Pictures, and passages, that are encoded in one run.
PICTURES, TEXTS = 8, 32
AHEAD = 8
OPEN_S = 60.0
#: What is said of a file that is not there, and of one that is another than was stored.
GONE, DAMAGED = "The file is not there.", "The file is not as long as it was when it was stored."
INTERNAL = "internal error; the log of the Ray worker has the details"

_TEXT = pa.struct([("text", pa.string()), ("segment", pa.string())])
_VECTOR = pa.struct([("modality", pa.string()), ("segment", pa.string()), ("data", pa.binary())])
#: ``source``: an address (http, https) or a path that all nodes have; ``bytes``: its length.
MANIFEST = pa.schema(
    [
        ("id", pa.string()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("bytes", pa.int64()),
        ("captions", pa.list_(pa.string())),
    ]
)
_DECODED = pa.schema(
    [
        ("id", pa.string()),
        ("error", pa.string()),
        ("cpu_s", pa.float64()),
        ("pixels", pa.large_binary()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("texts", pa.list_(_TEXT)),
    ]
)
#: ``segment``: JSON, or null; ``data``: little-endian float32; ``error``: empty, or why there are no vectors.
PART = pa.schema(
    [("id", pa.string()), ("error", pa.string()), ("cpu_s", pa.float64()), ("vectors", pa.list_(_VECTOR))]
)


class Row(TypedDict):
    """Of `MANIFEST`."""

    id: str
    kind: str
    source: str
    bytes: int
    captions: list[str]


class Passage(TypedDict):
    text: str
    segment: str | None


class Encoded(TypedDict):
    modality: str
    segment: str | None
    data: bytes


class Answer(TypedDict, total=False):
    """Of a row, as it comes from an actor that decodes (without `vectors`), and then from one that encodes."""

    id: Required[str]
    error: Required[str]
    cpu_s: Required[float]
    texts: Required[list[Passage]]
    pixels: bytes | None
    height: int
    width: int
    vectors: list[Encoded]


@dataclass(frozen=True)
class Task:
    """The cluster, the model that ships (empty: the space in the folder), and the bounds of decoders."""

    address: str
    model: str
    decoder_memory_bytes: int
    decoder_timeout_s: float

    def write(self, folder: Path) -> None:
        (folder / TASK).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Task:
        return cls(**json.loads((folder / TASK).read_text()))


# --- On the nodes ----------------------------------------------------------------------------------------


class Decode:
    """An actor that reads and decodes rows of a manifest."""

    def __init__(self, memory_bytes: int, timeout_s: float) -> None:
        self._decoder = Decoder(memory_bytes, timeout_s, turns=lambda: FairQueue(1))

    def __call__(self, rows: pa.Table) -> pa.Table:
        return pa.Table.from_pylist([self._row(row) for row in rows.to_pylist()], schema=_DECODED)

    def _row(self, row: Row) -> Answer:
        """Raises OSError where the storage is away: nothing is known about the row then."""
        found: Answer = {"id": row["id"], "error": "", "cpu_s": 0.0, "texts": []}
        try:
            self._fill(found, row)
        except MediaError as error:
            found["error"], found["cpu_s"] = f"{error.code}: {error.message}", error.cpu_s
        except FileNotFoundError:
            found["error"] = GONE
        except OSError:
            raise
        except Exception:
            log.exception("row could not be read")
            found["error"] = INTERNAL
        return found

    def _fill(self, found: Answer, row: Row) -> None:
        with NamedTemporaryFile(prefix="bulk-") as file:
            if not _copied(row["source"], row["bytes"], file):
                found["error"] = DAMAGED
                return
            if row["kind"] == "image":
                picture = self._picture(file.name)
                found["pixels"], found["cpu_s"] = picture.pixels.tobytes(), picture.cpu_s
                found["height"], found["width"] = picture.pixels.shape[:2]
                found["texts"] = _cut(row["captions"] or ())
            else:
                file.seek(0)
                found["texts"] = _cut([file.read().decode("utf-8")])

    def _picture(self, path: str) -> Any:
        try:
            return self._decoder.image(path, thumbnail=False)
        except MediaError as error:
            if error.code not in TRANSIENT:
                raise
            return self._decoder.image(path, thumbnail=False)


def _copied(source: str, length: int, sink: IO[bytes]) -> bool:
    """Whether it has the length that it should have: never is more of it copied."""
    with _opened(source) as stream:
        left = length + 1
        while left > 0 and (piece := stream.read(min(left, 1 << 20))):
            sink.write(piece)
            left -= len(piece)
    sink.flush()
    return left == 1


def _opened(source: str) -> IO[bytes]:
    """Raises FileNotFoundError, and other OSError."""
    if not source.startswith(("http://", "https://")):
        return Path(source).open("rb")
    try:
        opened: IO[bytes] = urllib.request.urlopen(source, timeout=OPEN_S)  # noqa: S310  # its scheme is looked at above
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise FileNotFoundError(source) from None
        # Without the address: it is signed.
        raise OSError(f"the storage answered {error.code}") from None
    return opened


def _cut(texts: Sequence[str]) -> list[Passage]:
    return [
        {"text": text[start:end], "segment": _json(segment_of(text, start, end, number))}
        for number, text in enumerate(texts)
        for start, end in passages(text)
    ]


def _json(segment: dict[str, int] | None) -> str | None:
    return None if segment is None else json.dumps(segment)


class Encode:
    """An actor that makes vectors of decoded rows. ``files``: of a space that does not ship, by name."""

    def __init__(self, model: str, files: dict[str, bytes]) -> None:
        self._space = _space(model, files)

    def __call__(self, rows: pa.Table) -> pa.Table:
        found = rows.to_pylist()
        for row in found:
            row["vectors"] = []
        self._add_pictures([row for row in found if row["pixels"] is not None])
        self._add_texts([(row, text) for row in found for text in row["texts"] or ()])
        return pa.Table.from_pylist(found, schema=PART)

    def _add_pictures(self, rows: list[Answer]) -> None:
        import numpy as np

        for some in _portions(rows, PICTURES):
            start = time.thread_time()
            pictures = [
                np.frombuffer(row["pixels"], np.uint8).reshape(row["height"], row["width"], 3) for row in some
            ]
            vectors = self._space.project_image(self._space.see(pictures))
            self._add(some, "image", [None] * len(some), vectors, start)

    def _add_texts(self, cuts: list[tuple[Answer, Passage]]) -> None:
        for some in _portions(cuts, TEXTS):
            start = time.thread_time()
            space, texts = self._space, [text["text"] for _, text in some]
            vectors = space.as_asset(space.project_text(space.read(texts)))
            segments = [text["segment"] for _, text in some]
            self._add([row for row, _ in some], "text", segments, vectors, start)

    def _add(
        self,
        rows: list[Answer],
        modality: str,
        segments: Sequence[str | None],
        vectors: Any,
        start: float,
    ) -> None:
        share = (time.thread_time() - start) / len(rows)
        for row, segment, vector in zip(rows, segments, vectors, strict=True):
            row["cpu_s"] += share
            data = vector.astype("<f4").tobytes()
            row["vectors"].append({"modality": modality, "segment": segment, "data": data})


def _portions(rows: list[Any], count: int) -> Iterator[list[Any]]:
    return (rows[first : first + count] for first in range(0, len(rows), count))


def _space(model: str, files: dict[str, bytes]) -> JointSpace:
    from ml.alignment.installed import folder_of
    from ml.alignment.space import JointSpace, SpaceError

    if not files:
        if (folder := folder_of(model)) is None:
            raise SpaceError(f"this node has no model {model!r}")
        return JointSpace.load(folder)
    with TemporaryDirectory(prefix="bulk-space-") as copy:
        for name, content in files.items():
            (Path(copy) / name).write_bytes(content)
        space = JointSpace.load(copy)
        # A text tower of its own is opened while its files are there.
        space.read([])
    return space


# --- In the process that wants them ----------------------------------------------------------------------


def run(folder: Path) -> None:
    """Answer every row of the folder's manifest. Raises whatever Ray raises."""
    import ray

    task = Task.read(folder)
    ray.init(task.address, log_to_driver=False, configure_logging=False)
    blocks = list(pq.ParquetFile(folder / MANIFEST_FILE).iter_batches(BLOCK))
    written = 0
    for number, part in enumerate(_parts(task, blocks, _files(folder / SPACE))):
        path = folder / f"part-{number}.parquet"
        pq.write_table(part.cast(PART), path)
        written += part.num_rows
        _say({"part": path.name, "rows": part.num_rows})
        while sum(1 for _ in folder.glob("part-*.parquet")) >= AHEAD:
            time.sleep(0.05)
    _say({"done": written})


def _parts(task: Task, blocks: list[pa.RecordBatch], files: dict[str, bytes]) -> Iterator[pa.Table]:
    """Tables of `PART` with ROWS rows each, in no particular order."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    DataContext.get_current().enable_progress_bars = False
    have = ray.cluster_resources()
    cpus, cards = int(have.get("CPU", 1)), int(have.get("GPU", 0))
    decoders = max(1, cpus // 4)
    # Each claims half a processor: where a node is lost, the others have room for the actors that were there, whose
    # blocks wait for them.
    most = cards or max(1, cpus - decoders)
    # What the driver puts there is on its own node: whoever loses that loses the driver.
    rows = ray.data.from_arrow([pa.Table.from_batches([block]) for block in blocks])
    rows = rows.map_batches(
        Decode,
        fn_constructor_args=(task.decoder_memory_bytes, task.decoder_timeout_s),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.5,
        compute=ActorPoolStrategy(min_size=1, max_size=decoders),
    )
    rows = rows.map_batches(
        Encode,
        fn_constructor_args=(task.model, files),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=0.5,
        num_gpus=1 if cards else 0,
        compute=ActorPoolStrategy(min_size=1, max_size=most),
    )
    yield from rows.iter_batches(batch_size=ROWS, batch_format="pyarrow", prefetch_batches=1)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def _say(value: dict[str, str | int]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _end_with_parent() -> None:
    """Wait for the end of standard input, then end the process at once, and with it Ray's job."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(3)


def main() -> int:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        run(Path(sys.argv[1]))
    except Exception as error:
        log.exception("the rows could not be encoded on Ray")
        _say({"error": f"{type(error).__name__}: {error}"[:2000]})
        return 1
    return 0


if __name__ == "__main__":
    # Actors are found by the module's name, not as part of `__main__`.
    from ml.bulk import main as run_main

    sys.exit(run_main())
