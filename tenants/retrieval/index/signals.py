"""What those who store and search notice of an index, told to those who build it (`lifecycle`), which stand above them.

`RetrievalConfig.ready` sees to it that they listen, in every process.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Protocol


class Repair(Protocol):
    def __call__(self, *, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None: ...


_repairs: list[Repair] = []
_looks: list[Callable[[], None]] = []


def on_damage(function: Repair) -> Repair:
    """Have it called for each generation that turns out to be missing or damaged. In no scope."""
    _repairs.append(function)
    return function


def on_growth(function: Callable[[], None]) -> Callable[[], None]:
    """Have it called from time to time while a tenant's vectors change. In the tenant's scope."""
    _looks.append(function)
    return function


def damaged(*, tenant_id: uuid.UUID, generation_id: uuid.UUID, reason: str) -> None:
    for repair in _repairs:
        repair(tenant_id=tenant_id, generation_id=generation_id, reason=reason)


def grown() -> None:
    for look in _looks:
        look()
