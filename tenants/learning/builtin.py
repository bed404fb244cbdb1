"""The spaces that come with the product: named by slug, the same for every tenant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from ml.alignment.space import SHIPPED


@dataclass(frozen=True)
class Builtin:
    """A shipped space: `prior-1` to people, `prior:1` with its vectors; what its manifest says of it."""

    slug: str
    space: str
    manifest: dict[str, Any]


@cache
def builtin_spaces() -> tuple[Builtin, ...]:
    """The newest first."""
    return tuple(_read(path) for path in sorted(SHIPPED.parent.glob("*/manifest.json"), reverse=True))


def _read(path: Any) -> Builtin:
    manifest = json.loads(path.read_text("utf-8"))
    space = f"{manifest['id']}:{manifest['version']}"
    return Builtin(space.replace(":", "-"), space, manifest)


def by_slug(slug: str) -> Builtin | None:
    return next((one for one in builtin_spaces() if one.slug == slug), None)


def by_space(space: str) -> Builtin | None:
    return next((one for one in builtin_spaces() if one.space == space), None)
