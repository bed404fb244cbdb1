"""What is kept of a file's name, and under which name it is saved again."""

from __future__ import annotations

import unicodedata

import pytest

from tenants.datasets.content_responses import ALIASES
from tenants.datasets.filenames import clean_filename, download_name, searchable_text
from tenants.retrieval.query.lexical import tokens


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("IMG_2041-red_bicycle.JPG", "IMG_2041-red_bicycle.JPG"),
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\cat.png", "cat.png"),
        ("a/b/", ""),
        ("..", ""),
        (" . ", ""),
        ("\u202egpj.exe", "gpj.exe"),
        ("a\u200b\u2066b\x00\r\n\x7f.png", "ab.png"),
        ("a\ud800b.png", "ab.png"),
        (" two \t words .jpg ", "two words .jpg"),
        ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        ("日本の写真.heic", "日本の写真.heic"),
        ("\U0001f468\u200d\U0001f469.png", "\U0001f468\u200d\U0001f469.png"),
        (None, ""),
    ],
)
def test_a_name_is_cleaned(given: str | None, kept: str) -> None:
    assert clean_filename(given) == kept
    assert unicodedata.is_normalized("NFC", kept)
    # What is stored is stored again by an import of an export.
    assert clean_filename(kept) == kept


def test_a_long_name_keeps_its_ending() -> None:
    cut = clean_filename("x" * 100_000 + ".jpeg")
    assert (len(cut), cut[-6:]) == (255, "x.jpeg")
    assert clean_filename("x." + "y" * 400) == "x." + "y" * 253


def test_words_of_a_name_are_found_apart_and_together() -> None:
    assert {"img", "2041", "red", "bicycle", "jpg"} <= set(
        tokens(searchable_text("IMG_2041-red_bicycle.JPG"))
    )
    assert {"redbicycle2", "red", "bicycle"} <= set(tokens(searchable_text("RedBicycle2.jpg")))


@pytest.mark.parametrize(
    ("name", "suffix", "saved"),
    [
        ("cat.JPEG", "jpg", "cat.JPEG"),
        ("cat.heic", "jpg", "cat.heic.jpg"),
        ("page.html", "txt", "page.html.txt"),
        ("notes", "txt", "notes.txt"),
        ("v1.2 of it", "png", "v1.2 of it.png"),
    ],
)
def test_a_download_has_the_ending_of_its_content(name: str, suffix: str, saved: str) -> None:
    assert download_name(name, suffix, ALIASES) == saved
