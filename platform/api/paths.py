"""Ids in paths: opaque strings of which only the canonical form names anything."""

from __future__ import annotations

import uuid

from tenants.datasets.selectors import NoSuchDataset


def read_id(value: str) -> uuid.UUID | None:
    """The id, or None for anything that this API never gave out."""
    try:
        parsed = uuid.UUID(value)
    except ValueError:
        return None
    return parsed if str(parsed) == value else None


def read_dataset_id(value: str) -> uuid.UUID:
    """The id of a dataset in a body or a query. Raises NoSuchDataset for anything that this API never gave out."""
    if (found := read_id(value)) is None:
        raise NoSuchDataset
    return found


class IdConverter:
    """Lets every string through: whether it names something is asked after the key, not before."""

    regex = "[^/]+"

    def to_python(self, value: str) -> uuid.UUID | None:
        return read_id(value)

    def to_url(self, value: object) -> str:
        return str(value)
