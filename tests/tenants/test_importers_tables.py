"""CSV: what people really send, and what nobody should."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.datasets.importers import limits, open_items, preview
from tenants.errors import Invalid
from tests.speed import LINEAR, growth
from tests.tenants.importing import csv, outcome, read

HEADER = "id,title,price\n"


def test_rows_become_items(tmp_path) -> None:
    path = csv(tmp_path, HEADER + '7,"A ""big"" bike, red",12.5\n8,"two\nlines",\n')
    first, second = read(path, "csv")
    assert (first.row, first.name, first.external_id) == (1, "line 2", "7")
    assert (first.text, first.metadata, first.error) == ('A "big" bike, red', {"price": 12.5}, None)
    assert (second.row, second.name, second.text, second.metadata) == (2, "line 3", "two\nlines", {})


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("utf-8", "红色的苹果, größer", "utf-8"),
        ("utf-8-sig", "größer", "utf-8-sig"),
        ("utf-16", "größer 苹果", "utf-16"),
        ("cp1252", "Größe und Maß, à la façade, Übermaß – “quoted”", "cp1252"),
        ("gb18030", "红色的苹果和一辆消防车在路上", "gb18030"),
        ("shift_jis", "赤いりんごと消防車が道を走っています", "cp932"),
        ("cp1251", "красное яблоко и пожарная машина", "cp1251"),
        ("euc_kr", "빨간 사과와 소방차가 달린다", "cp949"),
    ],
)
def test_encodings_are_found_and_shown(tmp_path, encoding, text, shown) -> None:
    path = csv(tmp_path, f'id,title\n1,"{text}"\n2,"{text}!"\n', encoding)
    assert outcome(read(path, "csv")) == [text, f"{text}!"]
    assert preview(path, "csv").options["encoding"] == shown


def test_the_encoding_can_be_said(tmp_path) -> None:
    path = csv(tmp_path, "title\nžluť\n", "cp1250")
    assert outcome(read(path, "csv", options={"encoding": "windows-1250"})) == ["žluť"]
    # UTF-16 by that name needs a byte order mark.
    for wrong in ("idna", "unicode_escape", "no-such", "base64", 7, "x" * 999, "utf-16"):
        with pytest.raises(Invalid) as caught:
            read(path, "csv", options={"encoding": wrong})
        assert caught.value.errors[0]["pointer"] == "/options/encoding"


def test_bytes_of_another_encoding_fail_their_row_only(tmp_path) -> None:
    good = "".join(f"{n},plain {n},1\n" for n in range(30_000))
    path = csv(tmp_path, (HEADER + good).encode() + b"x,caf\xe9,1\ny,nul\x00,1\nz,last,1\n")
    items = read(path, "csv")[-4:]
    assert [item.error for item in items] == [
        None,
        'The cell of "title" holds NUL or bytes that are not utf-8.',
        'The cell of "title" holds NUL or bytes that are not utf-8.',
        None,
    ]
    assert items[-1].external_id == "z"


@pytest.mark.parametrize(
    ("content", "delimiter", "cells"),
    [
        ("id,title\n1,a\n", ",", ["a"]),
        ("id;title\n1;a, b, c\n2;d\n", ";", ["a, b, c", "d"]),
        ("id;title;price\n1;a;3,5\n2;b;4,5\n", ";", ["a", "b"]),
        ("id\ttitle\n1\ta;b,c|d\n", "\t", ["a;b,c|d"]),
        ("id|title\n1|a\n", "|", ["a"]),
        ("title\na\nb\n", ",", ["a", "b"]),
        ('id,title\n1,"a;b;c"\n2,"d;e;f"\n', ",", ["a;b;c", "d;e;f"]),
        ('"id";"title, long"\n1;"x\ny;z"\n', ";", ["x\ny;z"]),
    ],
)
def test_delimiters_are_found(tmp_path, content, delimiter, cells) -> None:
    path = csv(tmp_path, content)
    found = preview(path, "csv")
    assert found.options["delimiter"] == delimiter
    assert [row["text"] for row in found.rows] == cells


def test_a_delimiter_can_be_said(tmp_path) -> None:
    path = csv(tmp_path, "title,a;b\nx,y;z\n")
    assert preview(path, "csv", options={"delimiter": ";"}).columns[1].name == "b"
    with pytest.raises(Invalid) as caught:
        preview(path, "csv", options={"delimiter": "x"})
    assert caught.value.errors[0]["pointer"] == "/options/delimiter"


def test_ragged_rows_say_what_was_expected(tmp_path) -> None:
    path = csv(tmp_path, HEADER + "1,a,2\n2,b\n\n3,c,4,5\n4,d,6\n")
    assert outcome(read(path, "csv")) == [
        "a",
        "Expected 3 cells as in the first line, found 2.",
        "Expected 3 cells as in the first line, found 4.",
        "d",
    ]


def test_column_names_are_made_unique(tmp_path) -> None:
    path = csv(tmp_path, "title,,a,a,,a 2\nx,1,2,3,4,5\n")
    (item,) = read(path, "csv")
    assert item.metadata == {"column 2": 1, "a": 2, "a 3": 3, "column 5": 4, "a 2": 5}


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_line_endings(tmp_path, ending) -> None:
    path = csv(tmp_path, ending.join(["id,title", "1,a", '2,"b"', "3,c"]))
    assert outcome(read(path, "csv")) == ["a", "b", "c"]


def test_a_lone_quote_costs_its_row_and_no_other(tmp_path) -> None:
    path = csv(tmp_path, HEADER + '1,a,1\n2,"lone,1\n3,c,1\n4,"d",1\n5,"e" x,1\n6,f,1\n7,"open\n')
    items = read(path, "csv")
    assert [item.name for item in items] == [f"line {n}" for n in range(2, 9)]
    bad = "A quote inside a quoted cell: double it, or remove the quotes around."
    assert outcome(items) == [
        "a",
        bad,
        "c",
        "d",
        bad,
        "f",
        "A quoted cell begins here and is never closed.",
    ]


def test_a_quote_that_swallows_megabytes_is_noticed(tmp_path, monkeypatch) -> None:
    """There is no other quote in the file that could tell."""
    monkeypatch.setattr(limits, "RECORD", 100_000)
    rest = "".join(f"{n},row {n},1\n" for n in range(limits.RECORD // 5))
    items = read(csv(tmp_path, HEADER + '0,"lone,1\n' + rest), "csv")
    assert items[0].error.startswith("The row is longer than") and items[0].name == "line 2"
    assert len(items) == 1 + rest.count("\n")
    assert all(item.error is None for item in items[1:])
    assert items[-1].text == f"row {limits.RECORD // 5 - 1}"


def test_the_time_of_open_quotes_grows_with_the_lines(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(limits, "RECORD", 10_000)
    monkeypatch.setattr(limits, "REREAD", 30_000)

    def read_lines(count: int) -> None:
        read(csv(tmp_path, "a,b\n" + 'x","\n' * count), "csv", mapping={"text": "a"})

    assert growth(read_lines, 12_500) < LINEAR


def test_a_file_of_open_quotes_is_not_read_over_and_over(tmp_path, monkeypatch) -> None:
    """Each line leaves a quote open, wherever reading begins: every row swallows as much as a row may hold."""
    monkeypatch.setattr(limits, "RECORD", 10_000)
    monkeypatch.setattr(limits, "REREAD", 30_000)
    path = csv(tmp_path, "a,b\n" + 'x","\n' * 50_000)
    items = read(path, "csv", mapping={"text": "a"})
    assert [item.name for item in items[:3]] == ["line 2", "line 3", "line 4"], "as long as it costs little"
    assert 20 < len(items) < 60
    lost = [item.error for item in items if "The lines after it are lost with it" in (item.error or "")]
    assert len(lost) > 10 and all(item.error for item in items)


@pytest.mark.slow
def test_cells_of_ten_megabytes_fail_and_the_others_go_on(tmp_path) -> None:
    big, huge = "x" * (limits.CELL + 1), "y" * (2 * limits.RECORD)
    path = csv(tmp_path, f'{HEADER}1,a,1\n2,{big},1\n3,"{huge}",1\n4,{huge},1\n5,e,1\n')
    errors = [item.error for item in read(path, "csv")]
    assert errors[0] is None and errors[4] is None and len(errors) == 5
    assert errors[1] == 'The cell of "title" holds more than 10,485,760 characters.'
    assert errors[2] == errors[3] and errors[2].startswith("The row is longer than 12,582,912 characters.")


@pytest.mark.parametrize(
    "content",
    [b"", b"\n", b'"open\n1\n', b"a," * limits.COLUMNS + b"a\n", b"a\x00b,c\n1,2\n"],
)
def test_a_table_without_a_header_is_refused(tmp_path, content) -> None:
    with pytest.raises(Invalid):
        read(csv(tmp_path, content), "csv")


def test_cells_take_their_columns_type(tmp_path) -> None:
    path = csv(tmp_path, "title,price,code,new,day\na,1.50,007,true,2026-01-01\nb,2,10,false,2026-01-02\n")
    found = preview(path, "csv")
    assert {column.name: column.guessed_type for column in found.columns} == {
        "title": "text",
        "price": "number",
        "code": "text",
        "new": "bool",
        "day": "time",
    }
    assert found.rows[0]["metadata"] == {"price": 1.5, "code": "007", "new": True, "day": "2026-01-01"}
    assert found.rows[1]["metadata"]["code"] == "10"
    (item, _) = read(path, "csv", options={"types": {"price": "text"}})
    assert item.metadata["price"] == "1.50"
    with pytest.raises(Invalid) as caught:
        read(path, "csv", options={"types": {"nope": "text"}})
    assert caught.value.errors[0]["pointer"] == "/options/types/nope"


def test_declared_types_of_the_dataset_go_first(tmp_path) -> None:
    path = csv(tmp_path, "title,price,tags\na,12,red;blue\nb,cheap,\n")
    schema = {"price": {"type": "number"}, "tags": {"type": "tags"}}
    first, second = read(path, "csv", schema=schema)
    assert first.metadata == {"price": 12, "tags": ["red", "blue"]}
    assert second.error is not None and second.error.startswith('The cell of "price" does not fit: Expected')


def test_a_column_of_tags_needs_no_declaration(tmp_path) -> None:
    path = csv(tmp_path, "title,tags\na,red;blue\nb,one\nc,\n")
    for schema in ({}, {"tags": {"type": "text", "guessed": True}}):
        found = [item.metadata for item in read(path, "csv", schema=schema)]
        assert found == [{"tags": ["red", "blue"]}, {"tags": ["one"]}, {}]
    first, *_ = read(path, "csv", schema={"tags": {"type": "text"}})
    assert first.metadata == {"tags": "red;blue"}


def test_rows_are_the_same_when_reading_goes_on(tmp_path) -> None:
    path = csv(tmp_path, HEADER + "".join(f"{n},t{n},1\n\n" for n in range(50)) + "bad\n")
    whole = read(path, "csv")
    assert read(path, "csv", after=37) == whole[37:]
    assert read(path, "csv", after=51) == []


CSV_BYTES = st.binary(max_size=400) | st.text(alphabet='a1,;\t|"\n\r\x00 é苹', max_size=400).map(str.encode)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CSV_BYTES)
def test_any_bytes_give_items_or_invalid(tmp_path, kind, content) -> None:
    path = tmp_path / "any"
    path.write_bytes(b"id,text\n" * (kind == "csv") + content)
    try:
        with open_items(path, kind) as items:
            rows = [item.row for item in items]
        assert rows == list(range(1, len(rows) + 1))
    except Invalid:
        pass
