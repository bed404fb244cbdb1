"""What a generation says about itself: a JSON file, written last, that names every other file and its digest."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

from ml.indexes import files

FORMAT = 1
NAME = "manifest.json"


class GenerationDamaged(Exception):
    """A generation that cannot be trusted: a file is missing, cut, changed, or of another format."""


@dataclass(frozen=True)
class Effort:
    """How hard to look when at least ``share`` of the rows are allowed, as measured: recall@10 and cpu ms.

    ``effort`` 0 means exact search over the allowed rows.
    """

    share: float
    effort: int
    recall: float
    ms: float


@dataclass(frozen=True)
class Attempt:
    """One rung of the ladder that was built and measured, published or not."""

    kind: str
    settings: Mapping[str, int]
    recall: float
    build_s: float


@dataclass(frozen=True)
class Manifest:
    """``recall`` and ``target`` are recall@10 of searches without a filter, against exact ones.

    ``seq`` is the newest sequence number inside; ``efforts`` go from share 1 down; ``files`` maps names
    relative to the folder to bytes and digest; ``build_s`` is wall time of all attempts; ``peak_mb`` is the
    most memory that the building process held, mapped pages included.
    """

    kind: str
    settings: Mapping[str, int]
    dimension: int
    model: str
    seq: int
    vectors: int
    assets: int
    recall: float
    target: float
    queries: int
    efforts: tuple[Effort, ...]
    attempts: tuple[Attempt, ...]
    files: Mapping[str, files.Stamp]
    created_at: str
    build_s: float
    peak_mb: float
    format: int = FORMAT

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``json.dumps``."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The opposite of ``as_json``. Raises GenerationDamaged."""
        try:
            if value["format"] != FORMAT:
                raise GenerationDamaged(f"format {value['format']!r} is not {FORMAT}")
            known = {field.name: value[field.name] for field in fields(cls)}
            known["efforts"] = tuple(Effort(**row) for row in value["efforts"])
            known["attempts"] = tuple(Attempt(**row) for row in value["attempts"])
            known["files"] = {name: files.Stamp(**stamp) for name, stamp in value["files"].items()}
            return cls(**known)
        except (KeyError, TypeError, AttributeError) as error:
            raise GenerationDamaged(f"the manifest is incomplete: {error}") from error

    def write(self, folder: Path) -> None:
        """Write ``manifest.json`` whole or not at all, with a digest of itself, and sync the folder."""
        value = self.as_json()
        value["digest"] = files.digest_of_bytes(_canonical(value))
        part = folder / f"{NAME}.part"
        part.write_text(json.dumps(value, indent=1), encoding="utf-8")
        files.sync(part)
        part.rename(folder / NAME)
        files.sync(folder)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Raises GenerationDamaged."""
        try:
            value = json.loads((folder / NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise GenerationDamaged(f"no manifest: {error}") from error
        if not isinstance(value, dict):
            raise GenerationDamaged("the manifest is not an object")
        digest = value.pop("digest", None)
        if value.get("format") == FORMAT and digest != files.digest_of_bytes(_canonical(value)):
            raise GenerationDamaged("the manifest was changed")
        return cls.from_json(value)


def _canonical(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
