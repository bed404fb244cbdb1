"""JSON Lines: a bad line fails alone, other JSON is refused with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenants.datasets.importers import limits, preview
from tenants.datasets.importers.content import open_content
from tenants.datasets.importers.delimited import Delimited
from tenants.datasets.importers.json_lines import JsonLines
from tenants.datasets.importers.records import sampled
from tenants.errors import Invalid
from tests.tenants.importing import read


def lines(tmp_path: Path, *rows: bytes) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\n".join(rows))
    return path


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
        (b'{"text": 1e999}', "Numbers must be finite."),
        (b'{"text": "a", "more": ["\\ud800"]}', "Text must not contain unpaired surrogates."),
        (b'{"text": "a", "\\u0000": 1}', "A key holds a NUL character."),
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


def test_a_preview_cuts_what_is_long(tmp_path) -> None:
    path = lines(tmp_path, *[b'{"text": "' + b"x" * 5000 + b'", "list": [' + b"1," * 500 + b"1]}"] * 30)
    found = preview(path, "jsonl")
    assert (found.total, len(found.rows)) == (30, limits.PREVIEW_ROWS)
    assert len(found.rows[0]["text"]) == len(found.rows[0]["metadata"]["list"]) == limits.EXCERPT
    assert found.as_dict()["mapping"] == {"id": None, "text": "text", "file": None, "metadata": "*"}


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_runs_of_empty_lines_are_rows_so_that_looking_can_stop(tmp_path, monkeypatch, kind) -> None:
    monkeypatch.setattr(limits, "BLANK_LINES", 1000)
    rows = {"jsonl": b'{"text": "late"}', "csv": b"late"}
    path = tmp_path / "rows"
    path.write_bytes((b"text\n" if kind == "csv" else b"") + b"\n" * 30_000 + rows[kind])
    with open_content(path) as content:
        table = Delimited(content, {}) if kind == "csv" else JsonLines(content, {})
        sample = list(sampled(table))
        records = list(table.records())
    assert [record.error for record in records] == ["1,000 empty lines."] * 30 + [None]
    assert records[-1].values == {"text": "late"}
    assert len(sample) == limits.SAMPLE_FAULTS
