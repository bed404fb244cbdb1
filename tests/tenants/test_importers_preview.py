"""What a preview says of a table beside its rows: ids that stand twice, columns of mixed types, mended files."""

from __future__ import annotations

from pathlib import Path

from tenants.datasets.importers import escape_formula, preview
from tenants.datasets.importers.delimited import unescape_formula
from tests.tenants.importing import read


def warnings(tmp_path: Path, content: str, kind: str = "csv") -> list[str]:
    path = tmp_path / "source"
    path.write_text(content)
    return preview(path, kind).warnings


def test_ids_that_stand_twice_are_told(tmp_path: Path) -> None:
    rows = "sku,text\na,one\nb,two\na,three\nb,four\na,five\nc,six\n"
    assert warnings(tmp_path, rows) == [
        "Ids that more than one row has: 2 (“a” in line 2 and line 4; “b” in line 3 and line 5)."
    ]
    lines = "\n".join(f'{{"id": "{n // 2}", "text": "words"}}' for n in range(10))
    (found,) = warnings(tmp_path, lines, "jsonl")
    assert found.startswith("Ids that more than one row has: 5 (“0” in line 1 and line 2; ")
    assert found.endswith("; …).")
    assert warnings(tmp_path, "sku,text\na,one\nb,one\n") == []


def test_a_column_that_falls_back_to_text_is_told(tmp_path: Path) -> None:
    rows = "sku,text,price,sold,size\n" + "".join(f"{n},words,{n},true,{n}\n" for n in range(5))
    assert warnings(tmp_path, rows) == []
    rows += "7,words,n/a,maybe,\n"
    assert warnings(tmp_path, rows) == [
        "Column “price” is read as text: 5 of the first 6 values are a number, but “n/a” (line 7) is not.",
        "Column “sold” is read as text: 5 of the first 6 values are true or false, but “maybe” (line 7) is not.",
    ]
    # Words among which some look like numbers are words.
    assert warnings(tmp_path, "text,size\none,small\ntwo,large\nthree,7\n") == []


def test_a_mended_file_has_the_columns_of_its_source(tmp_path: Path) -> None:
    path = tmp_path / "source"
    path.write_text("import_line,import_reason,sku,text,'=note\nline 2,Too long.,a,words,'-x\n")
    seen = preview(path, "csv")
    assert [column.name for column in seen.columns] == ["sku", "text", "=note"]
    (item,) = read(path, "csv")
    assert (item.external_id, item.text, item.metadata) == ("a", "words", {"=note": "-x"})
    # Apostrophes of other files are theirs.
    path.write_text("sku,text,note\na,words,'-x\n")
    (item,) = read(path, "csv")
    assert item.metadata == {"note": "'-x"}


def test_cells_are_no_formulas_and_come_back() -> None:
    for cell in (
        "=1+1",
        "+x",
        "-x",
        "@x",
        "\tx",
        "\rx",
        "'x",
        "''",
        "'=1",
        "'",
        "",
        "plain",
        "-5",
        "-1.5e3",
        "a=b",
    ):
        safe = escape_formula(cell)
        assert unescape_formula(safe) == cell
        assert not safe.startswith(("=", "+", "@", "\t", "\r"))
        assert not safe.startswith("-") or cell in ("-5", "-1.5e3")
