"""What the OpenAPI document shows of each operation: where it is, what is sent and answered, and in which group."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from jsonschema import Draft202012Validator, FormatChecker

from api.docs import document
from api.examples import ANSWERS, REQUESTS
from api.fields import Body
from tenants.shapes import Shape

pytestmark = pytest.mark.guard

DOCUMENT = json.loads(document())
JSON = "application/json"


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def contents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each body of JSON that is sent, and each that is answered."""
    for name, operation in operations():
        for where, body in {"sent": operation.get("requestBody", {}), **operation["responses"]}.items():
            for kind, content in body.get("content", {}).items():
                if kind in (JSON, "application/problem+json"):
                    yield f"{name} {where}", content


def examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    for name, content in contents():
        for title, example in content.get("examples", {}).items():
            yield f"{name}: {title}", content["schema"], example["value"]


def test_each_body_and_each_answer_has_an_example() -> None:
    assert sum(1 for _ in contents()) > 150
    assert [name for name, content in contents() if not content.get("examples")] == []


def test_examples_fit_their_schemas() -> None:
    wrong = []
    for name, schema, value in examples():
        whole = {**schema, "components": DOCUMENT["components"]}
        found = Draft202012Validator(whole, format_checker=FormatChecker()).iter_errors(value)
        wrong += [f"{name}: {error.json_path}: {error.message}" for error in found]
    assert wrong == []


def test_examples_name_only_what_there_is() -> None:
    """A schema lets further members pass."""
    wrong = [
        f"{name}{unknown}" for name, schema, value in examples() for unknown in _unknown(schema, value, "")
    ]
    assert wrong == []


def _unknown(schema: dict[str, Any], value: Any, pointer: str) -> Iterator[str]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and "properties" in schema:
        for key, inner in value.items():
            if key not in schema["properties"]:
                yield f"{pointer}/{key}"
            else:
                yield from _unknown(schema["properties"][key], inner, f"{pointer}/{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _unknown(schema.get("items", {}), inner, f"{pointer}/{number}")


def test_bodies_are_read_as_they_are_shown() -> None:
    bodies = {body.__name__: body for body in _below(Body)}
    for name, example in REQUESTS.items():
        assert bodies[name].read(example), name


def test_each_example_is_of_something_that_is_answered() -> None:
    assert ANSWERS.keys() - {shape.__name__ for shape in _below(Shape)} == set()


def _below(base: type) -> Iterator[Any]:
    for one in base.__subclasses__():
        yield one
        yield from _below(one)


@pytest.mark.parametrize("empty", ["string", "x", "foo", "lorem"])
def test_examples_say_something(empty: str) -> None:
    assert [name for name, _, value in examples() if empty in _leaves(value)] == []


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict | list):
        return [
            leaf for one in (value.values() if isinstance(value, dict) else value) for leaf in _leaves(one)
        ]
    return [value]


def test_descriptions_are_for_clients() -> None:
    """Not the docstrings of the views."""
    assert [name for name, operation in operations() if "Subclasses" in operation["description"]] == []


def test_groups_stand_in_the_order_in_which_one_meets_them_and_say_what_they_are_for() -> None:
    groups = DOCUMENT["tags"]
    names = [group["name"] for group in groups]
    assert set(names) == {tag for _, operation in operations() for tag in operation["tags"]}
    assert len(names) == len(set(names))
    assert all(group["description"].endswith(".") for group in groups)
    met = ["me", "keys", "datasets", "assets", "uploads", "search", "jobs", "policies", "audits", "reviews"]
    met += ["appeals", "models", "generations", "webhooks", "members", "exports", "erasures"]
    assert [name for name in names if name in met] == met


def test_the_kept_document_names_no_host_and_the_served_one_names_the_one_that_was_asked() -> None:
    (kept,) = DOCUMENT["servers"]
    assert kept["url"] == "/"
    (served,) = json.loads(Client().get("/api/schema", headers={"Host": "localhost:8123"}).content)["servers"]
    assert served["url"] == "http://localhost:8123"
