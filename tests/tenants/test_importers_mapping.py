"""Which column is what: guessed from names and values, or said and checked."""

from __future__ import annotations

import pytest

from tenants.datasets.importers import Mapping, preview
from tenants.errors import Invalid
from tests.tenants.importing import csv, outcome, read


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
        ({"text": "a", "metadata": {"b": "\x00"}}, ["/mapping/metadata/b"]),
        ({"text": "a", "metadata": {"b": "\ud800"}}, ["/mapping/metadata/b"]),
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
