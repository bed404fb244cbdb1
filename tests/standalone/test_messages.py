"""Collecting texts, keeping their translations, and compiling them."""

from __future__ import annotations

import gettext
from collections.abc import Iterator
from pathlib import Path

import pytest

from standalone import catalogue, messages

TEMPLATE = """{% load i18n %}
    <p>{% translate "Save" %}</p>
  {% include "x.html" with hint=_("One a line.") %}
{% blocktranslate count n=n %}{{ n }} file{% plural %}{{ n }} files{% endblocktranslate %}
<b>{% translate "open" context "reviews" %}</b>
"""
MODULE = """
from django.utils.translation import gettext as _
def refuse(n):
    raise ValueError(_("At most %(n)s "
                       "files.") % {"n": n})
"""
SCRIPT = 'say(t("Sent {n}", { n }));\nsay(nt("{count} file", "{count} " + "files", 2));\n'


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A product of one template, one module and one script."""
    pages, scripts = tmp_path / "console", tmp_path / "console/src"
    (pages / "templates").mkdir(parents=True)
    scripts.mkdir()
    (pages / "templates/page.html").write_text(TEMPLATE)
    (pages / "module.py").write_text(MODULE)
    (scripts / "app.ts").write_text(SCRIPT)
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    monkeypatch.setattr(messages, "PAGES", (pages,))
    monkeypatch.setattr(messages, "MODULES", (pages,))
    monkeypatch.setattr(messages, "SCRIPTS", scripts)
    monkeypatch.setattr(messages, "STARTERS", tmp_path / "starters")
    monkeypatch.setattr(catalogue, "CONSOLE", pages)
    monkeypatch.setattr(catalogue, "SCRIPT_WORDS", {"zh_Hans": scripts / "words.zh.json"})
    return tmp_path


def po() -> str:
    return catalogue.po_file("zh_Hans").read_text()


def translate(text: str, words: str) -> None:
    file = catalogue.po_file("zh_Hans")
    file.write_text(
        file.read_text().replace(f'msgid "{text}"\nmsgstr ""', f'msgid "{text}"\nmsgstr "{words}"')
    )


def test_texts_of_all_kinds_are_collected(world: Path) -> None:
    found = {(text.context, text.text, text.plural) for text in messages.collect()}
    assert found == {
        (None, "Save", ""),
        (None, "One a line.", ""),
        (None, "%(n)s file", "%(n)s files"),
        ("reviews", "open", ""),
        (None, "At most %(n)s files.", ""),
    }
    assert messages.script_texts() == {"Sent {n}", "{count} file", "{count} files"}


def test_translations_are_kept_and_what_is_gone_goes(world: Path) -> None:
    assert set(messages.update("zh_Hans")) >= {"Save", "Sent {n}"}
    translate("Save", "保存")
    assert "Save" not in messages.update("zh_Hans")
    page = world / "console/templates/page.html"
    page.write_text(page.read_text().replace('"Save"', '"Save it"'))
    assert "Save it" in messages.update("zh_Hans")
    assert 'msgid "Save"' not in po()
    assert "fuzzy" not in po()


def test_a_catalogue_changes_only_where_a_text_does(world: Path) -> None:
    messages.update("zh_Hans")
    first = po()
    (world / "console/module.py").write_text("# a line more\n" + MODULE)
    messages.update("zh_Hans")
    assert po() == first
    assert str(world) not in first
    assert "Date" not in first


def test_what_is_compiled_is_what_gettext_finds(world: Path) -> None:
    messages.update("zh_Hans")
    translate("Save", "保存")
    catalogue.compile_all()
    binary = catalogue.po_file("zh_Hans").with_suffix(".mo")
    with binary.open("rb") as file:
        found = gettext.GNUTranslations(file)
    assert (found.gettext("Save"), found.gettext("One a line.")) == ("保存", "One a line.")
    before = binary.stat().st_mtime_ns
    catalogue.compile_all()
    assert binary.stat().st_mtime_ns == before
    translate("One a line.", "每行一个。")
    catalogue.compile_all()
    with binary.open("rb") as file:
        assert gettext.GNUTranslations(file).gettext("One a line.") == "每行一个。"


def test_a_script_may_not_translate_a_variable(world: Path) -> None:
    (world / "console/src/app.ts").write_text("say(t(text));")
    with pytest.raises(ValueError, match=r"app\.ts"):
        messages.script_texts()
