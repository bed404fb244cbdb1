"""Policies to begin with, one JSON file each: `title`, `description` and the `document`. The file name is the id."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from django.utils.translation import gettext as _

from tenants.errors import NotFound
from tenants.moderation.rules import document as policy_document

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Starter:
    id: str
    title: str
    description: str
    document: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "title": self.title,
            "description": self.description,
            "document": copy.deepcopy(self.document),
        }


def list_starters() -> list[Starter]:
    """All of them, by id."""
    return [_read(path) for path in sorted(_FOLDER.glob("*.json"))]


def get_starter(starter_id: str) -> Starter:
    """Raises NotFound."""
    for starter in list_starters():
        if starter.id == starter_id:
            return starter
    known = ", ".join(starter.id for starter in list_starters())
    raise NotFound(_("Unknown starter policy; available are %(known)s.") % {"known": known})


@cache
def _read(path: Path) -> Starter:
    content = json.loads(path.read_text(encoding="utf-8"))
    document = policy_document.read_document(content["document"])
    return Starter(path.stem, content["title"], content["description"], document)
