"""CSV and JSON Lines: what people really send, and what nobody should."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.datasets.importers import Mapping, limits, open_items, preview
from tenants.errors import Invalid
from tests.tenants.importing import read

HEADER = "id,title,price\n"


def csv(tmp_path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    path = tmp_path / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def lines(tmp_path: Path, *rows: bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(rows))
    return path


def outcome(items: list[Any]) -> list[str]:
    """The text of each item, or why there is none."""
    return [item.error or item.text for item in items]


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
    for wrong in ("idna", "unicode_escape", "no-such", "base64", 7, "x" * 999):
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


def test_rows_are_the_same_when_reading_goes_on(tmp_path) -> None:
    path = csv(tmp_path, HEADER + "".join(f"{n},t{n},1\n\n" for n in range(50)) + "bad\n")
    whole = read(path, "csv")
    assert read(path, "csv", after=37) == whole[37:]
    assert read(path, "csv", after=51) == []


# --- Mapping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("sku,product title,colour", ("sku", "product title", None)),
        ("uuid,Caption,notes", ("uuid", "Caption", None)),
        ("编号,标题,价格", ("编号", "标题", None)),
        ("customer_id,question,answer", (None, "question", None)),
        ("image_path,label", (None, None, "image_path")),
        ("foo,bar", (None, "foo", None)),
    ],
)
def test_mappings_are_guessed(tmp_path, columns, expected) -> None:
    cells = ",".join(f"some {name}" for name in columns.split(","))
    assert preview(csv(tmp_path, f"{columns}\n{cells}\n"), "csv").mapping.roles == expected


def test_a_mapping_is_obeyed(tmp_path) -> None:
    path = csv(tmp_path, "a,b,c\n1,x,y\n")
    mapping = {"id": "a", "text": "c", "metadata": {"b": "kind"}}
    (item,) = read(path, "csv", mapping=mapping)
    assert (item.external_id, item.text, item.metadata) == ("1", "y", {"kind": "x"})
    stored = preview(path, "csv", mapping=mapping).mapping.as_dict()
    assert stored == {"id": "a", "text": "c", "file": None, "metadata": {"b": "kind"}}
    assert read(path, "csv", mapping=Mapping.parse(stored)) == [item]


@pytest.mark.parametrize(
    ("mapping", "pointers"),
    [
        ([], ["/mapping"]),
        ({"id": "a"}, ["/mapping"]),
        ({"text": "nope"}, ["/mapping/text"]),
        ({"text": ["a"]}, ["/mapping/text"]),
        ({"text": "a", "file": "a"}, ["/mapping/file"]),
        ({"text": "a", "label": "b"}, ["/mapping/label"]),
        ({"text": "a", "metadata": "all"}, ["/mapping/metadata"]),
        ({"text": "a", "metadata": {"x": "y", "b": ""}}, ["/mapping/metadata/x", "/mapping/metadata/b"]),
        ({"text": "a", "metadata": {"b": "k", "c": "k"}}, ["/mapping/metadata"]),
        ({"id": "p", "text": "q"}, ["/mapping/id", "/mapping/text"]),
    ],
)
def test_wrong_mappings_name_the_place(tmp_path, mapping, pointers) -> None:
    with pytest.raises(Invalid) as caught:
        preview(csv(tmp_path, "a,b,c\n1,x,y\n"), "csv", mapping=mapping or [0])
    assert [error["pointer"] for error in caught.value.errors] == pointers


def test_files_cannot_come_from_a_table_alone(tmp_path) -> None:
    path = csv(tmp_path, "file,title\na.jpg,x\nhttps://example.com/a.jpg,y\n,z\n")
    assert outcome(read(path, "csv", mapping={"file": "file", "text": "title"})) == [
        "This format carries no files. Put this table as manifest into a zip with the files.",
        "The file is a web address; addresses are not fetched. Put the file itself into a zip.",
        "z",
    ]


# --- JSON Lines --------------------------------------------------------------------------------------------


def test_json_lines(tmp_path) -> None:
    path = lines(
        tmp_path,
        b'\xef\xbb\xbf{"id": 7, "text": "a", "size": {"w": 1}, "tags": ["x", "y"], "none": null}',
        b"",
        b'{"id": 8.0, "text": "b"}\r',
    )
    first, second = read(path, "jsonl")
    assert (first.name, first.external_id, first.metadata) == (
        "line 1",
        "7",
        {"size": {"w": 1}, "tags": ["x", "y"]},
    )
    assert (second.row, second.name, second.external_id, second.text) == (2, "line 3", "8", "b")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nope", "Not valid JSON at character 1"),
        (b'{"text": "a"', "Not valid JSON"),
        (b"[1]", "Not a JSON object."),
        (b'{"text": NaN}', "NaN is not valid JSON."),
        (b'{"text": -Infinity}', "-Infinity is not valid JSON."),
        (b'{"text": "caf\xe9"}', "Not UTF-8."),
        (b'{"a":' * 200_000, "Nested too deep."),
        (b'{"text": ' + b"9" * 5000 + b"}", "Exceeds the limit"),
        (b'{"text": "' + b"x" * limits.CELL + b'"}', "The line is longer than 10,485,760 bytes."),
        (b'{"text": {"a": 1}}', 'Column "text" must hold text here, not an object.'),
        (b'{"text": true}', 'Column "text" must hold text here, not true or false.'),
        (b'{"text": "  "}', "The row has neither a text nor a file."),
        (b"{}", "The row has neither a text nor a file."),
    ],
)
def test_a_bad_line_fails_alone(tmp_path, line, words) -> None:
    path = lines(tmp_path, b'{"text": "a"}', line, b'{"text": "b"}')
    first, bad, last = read(path, "jsonl", mapping={"text": "text"})
    assert (first.text, last.text, bad.text) == ("a", "b", "")
    assert bad.error is not None and bad.error.startswith(words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b' [{"text": "a"}]', "one JSON array"),
        (b'{\n  "text": "a"\n}', "over several lines"),
        (b"\xff\xfe{\x00", "UTF-16"),
    ],
)
def test_other_json_is_refused_with_the_remedy(tmp_path, content, words) -> None:
    with pytest.raises(Invalid, match=words):
        read(lines(tmp_path, content), "jsonl")


def test_columns_that_come_later_may_be_mapped_to_metadata(tmp_path) -> None:
    path = lines(tmp_path, *[b'{"text": "a"}'] * 300, b'{"text": "b", "late": 1}')
    items = read(path, "jsonl", mapping={"text": "text", "metadata": {"late": "late"}})
    assert (items[0].metadata, items[-1].metadata) == ({}, {"late": 1})


# --- Whatever comes ----------------------------------------------------------------------------------------

CSV_BYTES = st.binary(max_size=400) | st.text(alphabet='a1,;\t|"\n\r\x00 é苹', max_size=400).map(str.encode)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=CSV_BYTES)
def test_any_bytes_give_items_or_invalid(tmp_path, kind, content) -> None:
    path = tmp_path / "any"
    path.write_bytes(b"id,text\n" * (kind == "csv") + content)
    began = time.monotonic()
    try:
        with open_items(path, kind) as items:
            rows = [item.row for item in items]
        assert rows == list(range(1, len(rows) + 1))
    except Invalid:
        pass
    assert time.monotonic() - began < 5


def test_a_preview_cuts_what_is_long(tmp_path) -> None:
    path = lines(tmp_path, *[b'{"text": "' + b"x" * 5000 + b'", "list": [' + b"1," * 500 + b"1]}"] * 30)
    found = preview(path, "jsonl")
    assert (found.total, len(found.rows)) == (30, limits.PREVIEW_ROWS)
    assert len(found.rows[0]["text"]) == len(found.rows[0]["metadata"]["list"]) == limits.EXCERPT
    assert found.as_dict()["mapping"] == {"id": None, "text": "text", "file": None, "metadata": "*"}
