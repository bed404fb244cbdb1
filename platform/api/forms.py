"""One body, two spellings: a JSON object, or a form with the same fields and files beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from api.fields import parse_json


@dataclass(frozen=True)
class Form:
    """`fields` as JSON would have them; `files` by name, at most one each."""

    fields: dict[str, Any]
    files: dict[str, UploadedFile] = field(default_factory=dict)


def read_form(
    request: Request,
    *,
    files: Iterable[str],
    json_fields: Iterable[str],
    repeated: Mapping[str, str] | None = None,
) -> Form:
    """The body; form fields named in `json_fields` hold JSON.

    A form may send those named in `repeated` several times: what follows the first goes into the list that it names
    there. Raises ValidationError, ParseError, TooLarge.
    """
    data = request.data
    if not isinstance(data, QueryDict):
        return Form(cast("dict[str, Any]", data))  # the parser refuses other JSON than objects
    found = _files(request.FILES, files)
    # `data` holds the files too; what is left are texts.
    texts = {name: data.getlist(name) for name in data if name not in request.FILES}
    if both := [name for name in texts if name in found]:
        raise ValidationError({name: ["Send this once."] for name in both})
    lists = {
        target: texts[name][1:] for name, target in (repeated or {}).items() if len(texts.get(name, ())) > 1
    }
    if both := [name for name in lists if name in texts]:
        raise ValidationError({name: ["Send either several texts or this, not both."] for name in both})
    for name in repeated or {}:
        texts[name] = texts.get(name, [])[:1]
    fields = {name: _value(name, values, json_fields) for name, values in texts.items() if values}
    return Form({**fields, **lists}, found)


def _files(given: MultiValueDict[str, UploadedFile], known: Iterable[str]) -> dict[str, UploadedFile]:
    for name in given:
        if name not in known:
            raise ValidationError({name: ["There is no such file field."]})
        if len(given.getlist(name)) > 1:
            raise ValidationError({name: ["Send one file."]})
    return {name: cast(UploadedFile, given[name]) for name in given}


def _value(name: str, values: list[str], json_fields: Iterable[str]) -> Any:
    if len(values) > 1:
        raise ValidationError({name: ["Send this once."]})
    return parse_json(values[0], name) if name in json_fields else values[0]
