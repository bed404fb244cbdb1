"""JSON in and out: what the quick reader and writer do is what the standard library does."""

from __future__ import annotations

import datetime as dt
import io
import json
import uuid
from typing import Any

import numpy as np
import pytest
from django.utils.translation import gettext_lazy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework import serializers
from rest_framework.exceptions import ParseError, ValidationError
from rest_framework.renderers import JSONRenderer

from api.fields import Body, Flag, Text, Whole
from api.parsers import LimitedJSONParser
from api.rendering import Renderer, to_json

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def read(body: bytes) -> Any:
    return LimitedJSONParser().parse(io.BytesIO(body))


# Deep values are slow to draw on a busy machine.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(ANY)
def test_what_was_written_is_read_back_with_its_types(value: Any) -> None:
    text = to_json(value)
    assert repr(json.loads(text)) == repr(value)
    assert repr(read(text)) == repr(value)


@pytest.mark.parametrize(
    "text",
    [
        "123456789012345678901234567890",
        "[1.0, -0, 1e5, 0.1e-400, 1e400]",
        r'"\ud800"',
        '{"a":1,"a":2}',
        " {}\n",
    ],
)
def test_odd_json_means_what_it_meant(text: str) -> None:
    assert repr(read(text.encode())) == repr(json.loads(text))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"NaN",
        b"-Infinity",
        b"[1,]",
        b"01",
        b"\xef\xbb\xbf{}",
        b'"\xff"',
        b'"\x01"',
        b"{'a': 1}",
        b"{} {}",
    ],
)
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(ParseError, match="not valid JSON in UTF-8"):
        read(body)


@pytest.mark.parametrize("depth", [10_000, 200_000])
@pytest.mark.parametrize("start", [b"[", b'{"a":'])
def test_bottomless_json_is_refused(start: bytes, depth: int) -> None:
    with pytest.raises(ParseError, match="nested too deeply"):
        read(start * depth)


MOMENT = dt.datetime(2026, 1, 2, 3, 4, 5, 600, dt.UTC)


@pytest.mark.parametrize(
    "value",
    [
        *(MOMENT, MOMENT.replace(microsecond=0), MOMENT.astimezone(dt.timezone(dt.timedelta(hours=8)))),
        *(MOMENT.date(), uuid.UUID(int=7), (1, 2), {1: 2}, {None: 1}, {True: 1}, 10**30),
        *(
            np.float32(0.5),
            np.int64(3),
            np.array([1.5, 2.0]),
            gettext_lazy("a word"),
            "é/<\x7f",
        ),
    ],
    ids=repr,
)
def test_an_answer_is_written_as_the_frameworks_writer_would(value: Any) -> None:
    data = {"here": [value]}
    assert json.loads(Renderer().render(data)) == json.loads(JSONRenderer().render(data))


def test_no_answer_is_no_body() -> None:
    assert Renderer().render(None) == b""


# --- Bodies ----------------------------------------------------------------------------------------------


class Inner(Body):
    name = Text()
    size = Whole(required=False)


class Outer(Body):
    wanted = Text()
    given = Whole(default=7)
    inner = Inner(required=False, allow_null=True)
    flag = Flag(required=False)
    words = serializers.ListField(child=Text(), required=False)


class Stock(serializers.Serializer):
    """The same fields, read by Django REST framework's own serializer."""

    wanted = Text()
    given = Whole(default=7)
    inner = Inner(required=False, allow_null=True)
    flag = Flag(required=False)
    words = serializers.ListField(child=Text(), required=False)


@pytest.mark.parametrize(
    "data",
    [
        *({}, {"wanted": "x"}, {"wanted": None}, {"wanted": "x", "given": None}, {"wanted": "x", "given": 3}),
        *(
            {"wanted": "x", "inner": None},
            {"wanted": "x", "inner": {}},
            {"wanted": "x", "inner": {"name": "n"}},
        ),
        *(
            {"wanted": 1, "flag": "yes", "inner": {"name": 2, "size": "big"}},
            {"wanted": "x", "words": ["a", 2]},
        ),
    ],
    ids=str,
)
def test_a_body_is_read_as_the_frameworks_serializer_reads_it(data: dict[str, Any]) -> None:
    try:
        expected: Any = dict(Stock().run_validation(data))
    except ValidationError as error:
        expected = error.detail
    try:
        found: Any = Outer.read(data)
    except ValidationError as error:
        found = error.detail
    assert json.dumps(found) == json.dumps(expected)
