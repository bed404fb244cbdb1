"""Reading bodies, within limits. Forms are Django REST framework's; uploads stream to disk (config.uploads)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

import msgspec
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

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


def _by_the_library(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ParseError("The body is nested too deeply.") from error
    except ValueError as error:
        raise ParseError("The body is not valid JSON in UTF-8.") from error


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
