"""The spaces that come with the product: named by slug, the same for every tenant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from ml.alignment.space import SHIPPED
from ml.alignment.storage import missing_models


@dataclass(frozen=True)
class Builtin:
    """A shipped space: `prior-1` to people, `prior:1` with its vectors; what its manifest says of it."""

    slug: str
    space: str
    manifest: dict[str, Any]

    @property
    def missing_weights(self) -> str:
        """An encoder of it that was not prepared on this machine; empty where all were."""
        return next(iter(missing_models(self.manifest)), "")

    @property
    def tunes_text(self) -> bool:
        """Whether its text encoder can be tuned (`lora`): a tower's texts are mapped from what the encoder says now."""
        return self.manifest.get("kind", "prior") == "prior"


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
