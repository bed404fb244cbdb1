"""The two tenants of this package's tests: made once, as each takes seconds."""

from __future__ import annotations

import pytest

from tests.isolation.world import World, new_world


@pytest.fixture(scope="session")
def victim() -> World:
    return new_world()


@pytest.fixture(scope="session")
def attacker() -> World:
    return new_world()
