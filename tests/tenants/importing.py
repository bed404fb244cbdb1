"""Reading sources in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tenants.datasets.importers import Item, open_items
from tenants.errors import ServiceError

LIMIT = 1 << 20


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
