"""Reading sources in tests."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from tenants.datasets.importers import Item, open_items
from tenants.errors import ServiceError

LIMIT = 1 << 20

JPEG = b"\xff\xd8\xff\xe0" + b"picture" * 20


def read(location: str | Path, kind: str, **options: Any) -> list[Item]:
    """All items, without their files."""
    with open_items(location, kind, **options) as items:
        return list(items)


def read_files(location: str | Path, kind: str, target: Path, **options: Any) -> list[tuple[str, Any]]:
    """Name, and what saving gave: the bytes, the error of the item or of saving, None without a file."""
    with open_items(location, kind, **options) as items:
        return [(item.name, _saved(item, target / "saved")) for item in items]


def _saved(item: Item, target: Path) -> Any:
    if item.save is None:
        return item.error
    try:
        count = item.save(target, LIMIT)
    except ServiceError as error:
        assert not target.exists()
        return error.detail
    content = target.read_bytes()
    target.unlink()
    assert count == len(content)
    return content


def packed(tmp_path: Path, files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    path = tmp_path / "files.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(tmp_path: Path, files: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    path = tmp_path / "samples.tar"
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def csv(tmp_path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def outcome(items: list[Any]) -> list[str]:
    """The text of each item, or why there is none."""
    return [item.error or item.text for item in items]
