"""Licences of all dependencies are ones that somebody has allowed."""

from __future__ import annotations

import pytest

from standalone import supply_chain
from standalone.supply_chain import Part


def test_every_dependency_has_a_licence_that_is_allowed() -> None:
    parts = [*supply_chain.python_parts(), *supply_chain.npm_parts()]
    assert len(parts) > 300
    assert [(part.name, part.licence) for part in parts if not part.verdict] == []


@pytest.mark.parametrize(
    ("licence", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 OR GPL-3.0-only", True),
        ("MIT AND AGPL-3.0", False),
        ("GPL-3.0-or-later", False),
        ("MPL-2.0 AND MIT", True),
        ("BSD License; Other/Proprietary License", False),
        ("UNKNOWN", False),
    ],
)
def test_what_is_allowed(licence: str, allowed: bool) -> None:
    assert bool(Part("pypi", "somebody", "1", licence).verdict) is allowed


def test_a_package_of_npm_as_a_component() -> None:
    """`make sbom` validates the whole document by CycloneDX's schema, which takes a minute."""
    found = supply_chain._npm_component(Part("npm", "@a/b", "1.2.3", "MIT"))
    assert found["purl"] == found["bom-ref"] == "pkg:npm/%40a/b@1.2.3"
    assert found["licenses"] == [{"license": {"name": "MIT"}}]
    assert "licenses" not in supply_chain._npm_component(Part("npm", "b", "1", "UNKNOWN"))
