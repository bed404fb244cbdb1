"""The front door of retrieval: what stands in it can be had, and is what a type checker is told."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

#: Packages; the other rooms are modules of their own, whose public names are their door.
ROOMS = ("", ".index", ".query")


@pytest.mark.parametrize("room", ROOMS)
def test_every_name_can_be_had_and_is_what_type_checkers_see(room: str) -> None:
    package = import_module(f"tenants.retrieval{room}")
    assert package.__file__ is not None
    told: dict[str, str] = {}
    for node in ast.walk(ast.parse(Path(package.__file__).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tenants.retrieval"):
            told |= {name.asname or name.name: f"{node.module}:{name.name}" for name in node.names}
    assert sorted(told) == sorted(package.__all__)
    for name in package.__all__:
        module, _, attribute = told[name].partition(":")
        assert getattr(package, name) is getattr(import_module(module), attribute, getattr(package, name))
    with pytest.raises(AttributeError, match="nothing"):
        _ = package.nothing


def test_the_package_has_few_names() -> None:
    assert set(import_module("tenants.retrieval").__all__) == {
        "MODALITIES",
        "Answer",
        "Hit",
        "Query",
        "QueryPart",
        "search",
    }
