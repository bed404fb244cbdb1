"""Where joint spaces lie: those that ship with the product, and those that an operator added to this installation.

What was added lies among the prepared models, ``spaces/SLUG``: the space's own two files, and its towers in ``text``
and ``image``, each an export with a manifest. The folder appears in one step. Standard library only.
"""

from __future__ import annotations

import re
from pathlib import Path

from ml.compression.store import SPACES, models_dir

SHIPPED_SPACES = Path(__file__).parent / "spaces"
MANIFEST = "manifest.json"
#: ``encoders`` of a manifest name a tower that was added as ``added:SLUG#text``.
SCHEME = "added:"

_SPACE = re.compile(r"([a-z][a-z0-9-]{0,59}):([0-9]{1,9})")
_SLUG = re.compile(r"[a-z][a-z0-9-]{0,59}-[0-9]{1,9}")


def slug_of(space: str) -> str:
    """``open-1`` of ``open:1``; empty for what no space that ships or was added can be called."""
    found = _SPACE.fullmatch(space)
    return f"{found[1]}-{found[2]}" if found else ""


def added_dir() -> Path:
    """The folder of the spaces that were added here; it need not exist."""
    return models_dir() / SPACES


def added_folder(slug: str) -> Path:
    """Where a space that was added lies, or would. Raises ValueError for what cannot be a slug."""
    if not _SLUG.fullmatch(slug):
        raise ValueError(f"{slug!r} cannot name a space")
    return added_dir() / slug


def added_slugs() -> list[str]:
    """Of every space that was added, sorted."""
    return sorted(
        path.parent.name for path in added_dir().glob(f"*/{MANIFEST}") if _SLUG.fullmatch(path.parent.name)
    )


def folder_of(space: str) -> Path | None:
    """The folder of a space ``id:version`` that ships or was added; None where there is none."""
    slug = slug_of(space)
    if not slug:
        return None
    places = SHIPPED_SPACES / slug, added_dir() / slug
    return next((path for path in places if (path / MANIFEST).is_file()), None)
