"""Raw pairs as a stream: WebDataset .tar and Parquet with the bytes of pictures, from any URL, of unknown origin.

Nothing is unpacked to disk and no name in an archive is used as a path. Pictures stay bytes here; who needs pixels
decodes them with ``ml.media.Decoder``.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ml.training.plan import TrainingError

# --- Files behind URLs -----------------------------------------------------------------------------------
# Files behind URLs: local paths, s3:// through pyarrow, everything else through fsspec. Opened as streams.


def open_url(url: str) -> Any:
    """A seekable binary file. ``s3://bucket/key?endpoint_override=…`` takes its keys from the AWS_… environment.

    Raises OSError for what cannot be opened.
    """
    if url.startswith("s3://"):
        filesystem, path = _bucket(url)
        return filesystem.open_input_file(path)
    import fsspec

    try:
        return fsspec.open(_local(url), "rb").open()
    except (ImportError, ValueError) as error:
        raise OSError(f"{url}: {error}") from error


def expand(urls: Sequence[str], *endings: str) -> list[str]:
    """URLs with every folder replaced by its files of these endings, sorted; a file stays whatever it ends in."""
    found: list[str] = []
    for url in urls:
        found += _listed(url, endings)
    return found


def _listed(url: str, endings: tuple[str, ...]) -> list[str]:
    if url.startswith("s3://"):
        return _listed_bucket(url, endings)
    path = Path(url.removeprefix("file://"))
    if "://" in url.removeprefix("file://") or not path.is_dir():
        return [url]
    names = (one for one in path.rglob("*") if one.name.endswith(endings) and not one.name.startswith("."))
    return [str(one) for one in sorted(names)]


def _listed_bucket(url: str, endings: tuple[str, ...]) -> list[str]:
    import pyarrow.fs

    _address, mark, settings = url.partition("?")
    filesystem, path = _bucket(url)
    # What is not there stays, so that opening it says so.
    if filesystem.get_file_info(path).type != pyarrow.fs.FileType.Directory:
        return [url]
    selector = pyarrow.fs.FileSelector(path, recursive=True, allow_not_found=True)
    names = sorted(info.path for info in filesystem.get_file_info(selector) if info.path.endswith(endings))
    return [f"s3://{name}{mark}{settings}" for name in names]


def _bucket(url: str) -> tuple[Any, str]:
    import pyarrow
    import pyarrow.fs

    try:
        filesystem, path = pyarrow.fs.FileSystem.from_uri(url)
    except pyarrow.ArrowException as error:
        raise OSError(f"{url}: {error}") from error
    return filesystem, path


def _local(url: str) -> str:
    return url if "://" in url else Path(url).absolute().as_uri()


# --- Raw pairs -------------------------------------------------------------------------------------------


#: A picture or caption file above this is left out; WebDatasets of pictures are far below.
LARGEST_MEMBER = 64 << 20
LARGEST_CAPTION = 20_000
MOST_CAPTIONS = 50

PICTURES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "avif"})
TEXTS = frozenset({"txt", "caption", "text"})
ENDINGS = (".tar", ".parquet")

#: Columns (Parquet) and keys (JSON beside a picture) that are understood.
CAPTION_NAMES = ("captions", "caption", "text")
GROUP_NAMES = ("group", "group_id")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
}


@dataclass(frozen=True)
class RawPair:
    """``image`` are the bytes of a picture file; ``group`` is the key where the source names none."""

    key: str
    group: str
    split: str
    captions: tuple[str, ...]
    image: bytes


@dataclass(frozen=True)
class Unreadable:
    """An entry that is no pair, and why."""

    key: str
    reason: str


def raw_pairs(urls: Sequence[str]) -> Iterator[RawPair | Unreadable]:
    """The pairs of every source, one after the other. A file that breaks off ends with an Unreadable."""
    for url in expand(urls, *ENDINGS):
        try:
            yield from _of(url)
        except (OSError, tarfile.TarError, EOFError) as error:
            yield Unreadable(url, str(error) or type(error).__name__)


def _of(url: str) -> Iterator[RawPair | Unreadable]:
    ending = PurePosixPath(url.partition("?")[0]).suffix
    if ending == ".tar":
        with open_url(url) as file:
            yield from _tar(file)
    elif ending == ".parquet":
        yield from _parquet(url)
    else:
        raise TrainingError("unknown_source", f"{url}: sources are .tar (WebDataset) and .parquet.")


def _tar(file: IO[bytes]) -> Iterator[RawPair | Unreadable]:
    """Consecutive members with the same name up to the first dot are one sample."""
    key = ""
    sample: dict[str, bytes] = {}
    with tarfile.open(fileobj=file, mode="r|") as archive:
        for member in archive:
            if not member.isfile():
                continue
            stem, ending = _named(member.name)
            if stem != key and sample:
                yield _sample(key, sample)
                sample = {}
            key = stem
            if member.size > LARGEST_MEMBER:
                sample["too large"] = b""
            elif ending in PICTURES | TEXTS | {"json", "cls"}:
                sample[ending] = _content(archive, member)
    if sample:
        yield _sample(key, sample)


def _named(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    base, _, ending = path.name.partition(".")
    return str(path.with_name(base or "_")), ending.lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    content = archive.extractfile(member)
    return content.read() if content else b""


def _sample(key: str, sample: dict[str, bytes]) -> RawPair | Unreadable:
    picture = next((sample[ending] for ending in sorted(PICTURES) if ending in sample), b"")
    beside = _json(sample.get("json", b""))
    captions = [sample[ending] for ending in sorted(TEXTS) if ending in sample]
    lines = [text.decode("utf-8", "replace") for text in captions] or _first(beside, CAPTION_NAMES)
    label = sample["cls"].decode("utf-8", "replace") if "cls" in sample else _first(beside, GROUP_NAMES)
    return _pair(key, picture, lines, label, beside.get("split"))


def _json(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content or b"{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _parquet(url: str) -> Iterator[RawPair | Unreadable]:
    import pyarrow
    import pyarrow.parquet

    with open_url(url) as file:
        try:
            table = pyarrow.parquet.ParquetFile(file)
            for batch in table.iter_batches(batch_size=32):
                for number, row in enumerate(batch.to_pylist()):
                    yield _row(f"{url}#{number}", row)
        except (pyarrow.ArrowException, ValueError) as error:
            yield Unreadable(url, str(error))


def _row(name: str, row: dict[str, Any]) -> RawPair | Unreadable:
    picture = row.get("image")
    if isinstance(picture, dict):  # as Hugging Face datasets store pictures
        picture = picture.get("bytes")
    key = row.get("key") or row.get("id") or row.get("__key__") or name
    return _pair(str(key), picture, _first(row, CAPTION_NAMES), _first(row, GROUP_NAMES), row.get("split"))


def _first(values: dict[str, Any], names: Sequence[str]) -> Any:
    return next((values[name] for name in names if values.get(name)), None)


def _pair(key: str, picture: Any, captions: Any, group: Any, split: Any) -> RawPair | Unreadable:
    texts = [captions] if isinstance(captions, str) else captions if isinstance(captions, list) else []
    cleaned = [text.strip()[:LARGEST_CAPTION] for text in texts if isinstance(text, str) and text.strip()]
    if not isinstance(picture, bytes) or not picture:
        return Unreadable(key, "no picture")
    if not cleaned:
        return Unreadable(key, "no caption")
    group_name = str(group).strip() if isinstance(group, str | int) and str(group).strip() else key
    side = SPLIT_NAMES.get(split.lower(), "") if isinstance(split, str) else ""
    return RawPair(key, group_name[:500], side, tuple(dict.fromkeys(cleaned))[:MOST_CAPTIONS], picture)
