"""The spaces that come with the product or were added to it: named by slug, the same for every tenant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from ml.alignment.installed import SCHEME, SHIPPED_SPACES, added_dir, added_folder, added_slugs
from ml.alignment.storage import missing_models


@dataclass(frozen=True)
class Builtin:
    """A space for all: `prior-1` to people, `prior:1` with its vectors; what its manifest says of it.

    One that an operator added (`manage.py add_space`) is one of them.
    """

    slug: str
    space: str
    manifest: dict[str, Any]

    @property
    def missing_weights(self) -> str:
        """An encoder of it that was not prepared on this machine; empty where all were."""
        if self.is_added:
            whole = (added_folder(self.slug) / "image" / "model.onnx").is_file()
            return "" if whole else str(self.manifest["encoders"]["image"][0])
        return next(iter(missing_models(self.manifest)), "")

    @property
    def tunes_text(self) -> bool:
        """Whether its text encoder can be tuned (`lora`): a tower's texts are mapped from what the encoder says now."""
        return self.manifest.get("kind", "prior") == "prior"

    @property
    def is_added(self) -> bool:
        """Whether an operator added it, and may remove it."""
        return str(self.manifest["encoders"]["text"]).startswith(SCHEME)

    @property
    def tunes(self) -> bool:
        """Whether a fine-tune can start from it. Two towers that learnt to meet are served as they are."""
        return self.manifest.get("kind", "prior") != "two-tower"


def builtin_spaces() -> tuple[Builtin, ...]:
    """The newest first, and those that were added behind them; one that was just added is seen at once."""
    return tuple(_spaces())


def _spaces() -> Iterator[Builtin]:
    """One by one: the folder of those that were added is only read by who finds nothing before."""
    yield from _shipped()
    yield from _added(tuple(added_slugs()), added_dir())


@cache
def _shipped() -> tuple[Builtin, ...]:
    return tuple(_read(path) for path in sorted(SHIPPED_SPACES.glob("*/manifest.json"), reverse=True))


@lru_cache(maxsize=8)
def _added(slugs: tuple[str, ...], folder: Path) -> tuple[Builtin, ...]:
    """A name is never given twice, so that what was read of it stays right."""
    found = []
    for slug in slugs:
        # One that is being removed, or whose manifest is damaged, which the doctor tells.
        with suppress(OSError, ValueError, KeyError):
            found.append(_read(folder / slug / "manifest.json"))
    return tuple(one for one in found if one.slug in slugs)


def _read(path: Any) -> Builtin:
    manifest = json.loads(path.read_text("utf-8"))
    space = f"{manifest['id']}:{manifest['version']}"
    return Builtin(space.replace(":", "-"), space, manifest)


def by_slug(slug: str) -> Builtin | None:
    return next((one for one in _spaces() if one.slug == slug), None)


def by_space(space: str) -> Builtin | None:
    return next((one for one in _spaces() if one.space == space), None)
