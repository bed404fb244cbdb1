"""A search of the console as a call of the API: what to type to get the same results from a program."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tenants.retrieval import Query

PATH = "/api/v1/search"

#: Where the examples read the key from: no key is ever shown in a page.
KEY = "CROSSLIGHT_KEY"

PICTURE = "picture.jpg"

MAX_WIDTH = 96


Filter = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Snippets:
    """`with_file`: the query has an uploaded picture, which has to lie beside the program as `picture.jpg`."""

    curl: str
    python: str
    with_file: bool


def snippets_of(*, url: str, body: dict[str, Any], with_file: bool) -> Snippets:
    """`body` as `body_of` makes it."""
    return Snippets(
        _curl_form(url, body) if with_file else _curl(url, body), _python(url, body, with_file), with_file
    )


def merge(filters: Iterable[Filter]) -> Filter | None:
    """One filter that asks for all of them, which are joined by AND; None where two of them differ in the value of the
    same operator: in that of the API an operator stands once for each key.
    """
    merged: Filter = {}
    for one in filters:
        for key, given in one.items():
            known = merged.setdefault(key, {})
            if any(known.get(operator, value) != value for operator, value in given.items()):
                return None
            known.update(given)
    return merged


def body_of(query: Query, words: str, merged: Filter) -> dict[str, Any]:
    """The fields of the request, without a file and without what is as the API has it anyway. `words` as they were
    understood, also what was spoken.
    """
    unlike = {"assets": _ids(query.unlike), "text": query.unlike_text}
    body = {
        "text": words,
        "image": _image(query),
        "like": {"assets": _ids(query.like)} if query.like else None,
        "unlike": {name: value for name, value in unlike.items() if value},
        "datasets": _ids(query.datasets or ()),
        "modalities": query.modalities,
        "filter": merged,
        "task": query.task if query.task != "general" else None,
        "weights": query.weights,
        "hybrid": query.hybrid,
        "generated": query.generated if query.generated != "exclude" else None,
        "group": "duplicates" if query.group_duplicates else None,
        "top_k": query.top_k,
        "min_relevance": query.min_relevance,
        "sort": query.sort,
    }
    return {name: value for name, value in body.items() if value or (name == "min_relevance" and value == 0)}


def _image(query: Query) -> dict[str, str] | None:
    if query.image_file:
        return {"file": str(query.image_file)}
    return {"asset": str(query.image_asset)} if query.image_asset else None


def _ids(found: Iterable[object]) -> list[str]:
    return [str(one) for one in found]


def _curl(url: str, body: dict[str, object]) -> str:
    return _lines(
        f"curl -sS {shlex.quote(url)}",
        f'-H "Authorization: Bearer ${KEY}"',
        "-H 'Content-Type: application/json'",
        f"--data-raw {shlex.quote(_json(body))}",
    )


def _curl_form(url: str, body: dict[str, object]) -> str:
    # Not --form: that reads a file where a value begins with @ or <.
    fields = [f"--form-string {shlex.quote(f'{name}={_text(value)}')}" for name, value in body.items()]
    return _lines(
        f"curl -sS {shlex.quote(url)}",
        f'-H "Authorization: Bearer ${KEY}"',
        *fields,
        f"--form image=@{PICTURE}",
    )


def _lines(*parts: str) -> str:
    return " \\\n  ".join(parts)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: object) -> str:
    """A field of a form: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else _json(value)


PYTHON = """\
import os

import requests

answer = requests.post(
    {url!r},
    headers={{"Authorization": f"Bearer {{os.environ['{key}']}}"}},
{sent}
    timeout=60,
)
answer.raise_for_status()
for result in answer.json()["results"]:
    print(result["score"], result["asset"]["id"], result["asset"]["caption"])
"""


def _python(url: str, body: dict[str, object], with_file: bool) -> str:
    if with_file:
        fields = {name: _text(value) for name, value in body.items()}
        sent = f'    data={_literal(fields)},\n    files={{"image": open("{PICTURE}", "rb")}},'
    else:
        sent = f"    json={_literal(body)},"
    return PYTHON.format(url=url, key=KEY, sent=sent)


def _literal(value: dict[str, Any]) -> str:
    """As Python writes it, in lines that are aligned below its first brace."""
    first, *others = pprint.pformat(value, sort_dicts=False, width=MAX_WIDTH).splitlines()
    return "\n".join([first, *(f"         {line}" for line in others)])
