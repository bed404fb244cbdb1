"""What clients are told stays as it was, until somebody means to change it."""

from __future__ import annotations

import pytest

from tests.api import openapi

pytestmark = pytest.mark.guard

HINT = (
    "The OpenAPI document is not the one that was agreed. If clients are meant to see this, run `make update`, "
    "which keeps the new one in tests/api/openapi.json.gz, and say so in CHANGELOG.md; else mend the code."
)


def test_the_document_is_the_agreed_one() -> None:
    differences = list(openapi.differences(openapi.kept(), openapi.generated()))
    assert not differences, "\n".join([HINT, *differences[:60], f"({len(differences)} differences)"])


def test_differences_are_named() -> None:
    before = {"paths": {"/a": {"get": {"summary": "A", "tags": ["x"]}}}, "info": {"version": "1"}}
    after = {"paths": {"/a": {"get": {"summary": "B", "tags": ["y"]}}, "/b": {}}}
    assert list(openapi.differences(before, after)) == [
        "gone:  /info",
        'other: /paths/~1a/get/summary\n       was "A"\n       is  "B"',
        'other: /paths/~1a/get/tags/0\n       was "x"\n       is  "y"',
        "new:   /paths/~1b",
    ]


def test_order_of_members_and_of_choices_is_no_difference() -> None:
    one = openapi.canonical({"b": 1, "a": {"required": ["y", "x"], "enum": ["y", "x"]}})
    assert one == {"a": {"enum": ["x", "y"], "required": ["x", "y"]}, "b": 1}
    assert list(one) == ["a", "b"]
