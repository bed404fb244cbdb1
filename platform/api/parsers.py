"""Reading bodies, within limits. Forms are Django REST framework's; uploads stream to disk (config.uploads)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

import msgspec
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request

from api.fields import parse_json
from api.problems import Refusal, too_large

_decoder = msgspec.json.Decoder()


class LimitedJSONParser(JSONParser):
    """JSON of at most DATA_UPLOAD_MAX_MEMORY_SIZE bytes; the stock parser reads whatever comes."""

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        # Before it is read: what is announced too large need not come.
        announced = str(parser_context["request"].META.get("CONTENT_LENGTH", "")) if parser_context else ""
        if (announced.isdecimal() and int(announced) > limit) or len(body := stream.read(limit + 1)) > limit:
            raise Refusal(too_large(f"A JSON body may have {limit // 2**20} MiB."))
        try:
            return _decoder.decode(body)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            # The standard library has the last word on what JSON is: it takes unpaired surrogates, for one.
            return _by_the_library(body)


def _by_the_library(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ParseError("The body is nested too deeply.") from error
    except ValueError as error:
        raise ParseError("The body is not valid JSON in UTF-8.") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


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
    """The body; form fields named in `json_fields` hold JSON, or nothing, as those that a page's form leaves empty.

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
    fields = {
        name: _value(name, values, json_fields)
        for name, values in texts.items()
        if values and not (name in json_fields and values == [""])
    }
    return Form({**fields, **lists}, found)


def _files(given: MultiValueDict[str, UploadedFile], known: Iterable[str]) -> dict[str, UploadedFile]:
    for name in given:
        if name not in known:
            raise ValidationError({name: ["There is no such file field."]})
        if len(given.getlist(name)) > 1:
            raise ValidationError({name: ["Send one file."]})
    return {name: cast(UploadedFile, given[name]) for name in given}


def _value(name: str, values: list[str], json_fields: Iterable[str]) -> object:
    if len(values) > 1:
        raise ValidationError({name: ["Send this once."]})
    return parse_json(values[0], name) if name in json_fields else values[0]
