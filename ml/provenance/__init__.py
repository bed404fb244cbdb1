"""Where a file says, or proves, that it comes from: signed manifests, declarations in its metadata, own watermarks; and
how people notice that it was generated."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from ml.provenance.disclosure import Icon as Icon
    from ml.provenance.disclosure import Notice as Notice

__all__ = ["icon_of", "notice_of"]


def icon_of(text: str, corner: str, size: float, image: Path | None = None) -> Icon:
    """``ml.provenance.disclosure.Icon``, with the content of a file. Raises ValueError, in words for whoever set it."""
    from ml.provenance.disclosure import Icon, read_image

    return Icon(text, corner, size, read_image(image) if image is not None else None)


def notice_of(recording: Path | None = None) -> Notice:
    """The recording that ships, or another one. Raises ValueError, in words for whoever set it."""
    from ml.provenance.disclosure import SPOKEN, read_notice

    return read_notice(recording or SPOKEN)
