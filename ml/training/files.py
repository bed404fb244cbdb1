"""Files behind URLs: local paths, s3:// through pyarrow, everything else through fsspec. Opened as streams."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


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
