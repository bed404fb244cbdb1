"""Pages in the language of who reads them, and nothing in them that was forgotten."""

from __future__ import annotations

import datetime as dt
import importlib
import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.forms import BaseForm
from django.template import engines
from django.test import Client
from django.utils import translation

from console import problems
from console.templatetags import console_tags
from ml.media import MediaError
from standalone import catalogue, messages
from tests.conftest import Party
from tests.console.bare_texts import bare_texts

TEMPLATES = sorted(page for folder in messages.PAGES for page in (folder / "templates").rglob("*.html"))
ZH = "zh-CN,zh;q=0.9,en;q=0.5"
PLACEHOLDER = re.compile(r"%\((\w+)\)[sd]|%[sd]")
SCRIPT_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@pytest.fixture(autouse=True, scope="module")
def _catalogues_are_compiled() -> None:
    catalogue.compile_all()


# --- Nothing is forgotten ---


@pytest.mark.parametrize(
    "path", TEMPLATES, ids=lambda path: str(path.relative_to(messages.ROOT / "platform"))
)
def test_templates_say_nothing_that_is_not_translated(path: Path) -> None:
    assert list(bare_texts(path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>Save</p>", ["Save"]),
        ('<p>{% translate "Save" %}</p>', []),
        ("<p>{% blocktranslate %}Save {{ x }}{% endblocktranslate %} {{ y }}</p>", []),
        ('<a title="Go {{ x }}" href="/go">–</a>', ["title=Go \N{OBJECT REPLACEMENT CHARACTER}"]),
        ('{% include "a.html" with hint="One a line." %}', ["One a line."]),
        ('{% include "a.html" with hint=_("One a line.") %}', []),
        (
            "{{ n }} {% if n %}key{{ n|pluralize }}{% endif %}",
            ["n|pluralize", "\N{OBJECT REPLACEMENT CHARACTER} key\N{OBJECT REPLACEMENT CHARACTER}"],
        ),
        ("{# a note #}<code>GET /x</code>{% comment %}not this{% endcomment %}", []),
    ],
)
def test_the_search_for_bare_texts_finds_them(source: str, found: list[str]) -> None:
    assert list(bare_texts(source)) == found


@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_every_text_has_a_translation_and_none_is_left_over(language: str) -> None:
    known = {(m.context, _first(m.id)): m for m in catalogue.read_catalogue(language) if m.id}
    wanted = {(text.context, text.text) for text in messages.collect()}
    assert wanted - known.keys() == set(), "make update, and translate what it names"
    assert known.keys() - wanted == set(), "make update"
    assert [key for key, message in known.items() if not all(messages.strings_of(message))] == []
    assert [key for key, message in known.items() if message.fuzzy] == []


def _first(identity: Any) -> str:
    return identity[0] if isinstance(identity, tuple | list) else identity


@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_translations_name_the_same_values(language: str) -> None:
    wrong = []
    for message in catalogue.read_catalogue(language):
        texts = [message.id] if isinstance(message.id, str) else list(message.id)
        wanted = {tuple(sorted(m[0] for m in PLACEHOLDER.finditer(text))) for text in texts}
        given = {
            tuple(sorted(m[0] for m in PLACEHOLDER.finditer(text))) for text in messages.strings_of(message)
        }
        if message.id and not given <= wanted:
            wrong.append(message.id)
    assert wrong == []


# --- One word for one thing: the tables of docs/translating.md ---

TABLES = (catalogue.ROOT / "docs" / "translating.md").read_text().partition("## Words of the pages")[2]
ROWS = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", TABLES.partition("## Another language")[0], re.MULTILINE)
TERMS = [(english, chinese) for english, chinese in ROWS if re.search("[\u4e00-\u9fff]|Webhook", chinese)][1:]
RETIRED = [
    phrase.removesuffix(" …")
    for write, phrases in ROWS
    if (write, phrases) not in TERMS and write not in ("English", "write", "---")
    for phrase in phrases.split(", ")
]
# The English word means something else there, or is a name.
OTHER_MEANINGS = {
    "workspace": ("Google Workspace",),
    "plan": ("This plan does not exist for this dataset.", "This plan has not been made to its end."),
    "operator": ("A filter is an object of key", "Name an operator", "Operators are %(names)s."),
    "rule": ("installation’s own rules",),
    "task": ("a small task is sent through each queue",),
    "map": ("It maps categories to lists.", "map a column to the caption", "map to one of", "maps to {"),
    "search": ("permission “search”",),
}
_NOT_WORDS = re.compile(
    r"%\(\w+\)[sd]|<code>.*?</code>|<[^>]+>|`[^`]*`|\{[^}]*\}|\w+\.(?:parquet|jsonl|NAME\b)"
)


def texts() -> list[tuple[str, str]]:
    """(English, Chinese) of each text of pages and messages, plural forms joined."""

    def joined(text: str | tuple[str, ...] | list[str]) -> str:
        return text if isinstance(text, str) else "\n".join(text)

    return [(joined(row.id), joined(row.string)) for row in catalogue.read_catalogue("zh_Hans") if row.id]


def test_the_tables_of_words_are_read() -> None:
    assert len(TERMS) >= 50 and ("dataset", "数据集") in TERMS
    assert "There is no such" in RETIRED and "anew" in RETIRED


@pytest.mark.parametrize(("english", "chinese"), TERMS)
def test_a_thing_has_one_word(english: str, chinese: str) -> None:
    used = re.compile(rf"(?<![\w-]){re.escape(english)}(?:s|es)?(?![\w-])", re.IGNORECASE)
    elsewhere = OTHER_MEANINGS.get(english, ())
    said = [
        (text, translated)
        for text, translated in texts()
        if used.search(_NOT_WORDS.sub("", text)) and not any(part in text for part in elsewhere)
    ]
    assert said
    assert [pair for pair in said if chinese.lower() not in pair[1].lower()] == []


@pytest.mark.parametrize("phrase", RETIRED)
def test_retired_phrases_stay_away(phrase: str) -> None:
    used = re.compile(rf"(?<!\w){re.escape(phrase)}(?!\w)", re.IGNORECASE)
    assert [text for text, _ in texts() if used.search(text)] == []


@pytest.mark.parametrize("language", catalogue.LANGUAGES)
def test_scripts_are_translated_too(language: str) -> None:
    words = catalogue.read_script_messages(language)
    assert set(words) == messages.script_texts()
    assert [text for text, word in words.items() if not word] == []
    assert [
        text
        for text, word in words.items()
        if set(SCRIPT_PLACEHOLDER.findall(text)) != set(SCRIPT_PLACEHOLDER.findall(word))
    ] == []


# --- Who reads which ---


def test_the_browser_says_which_language() -> None:
    chinese = Client().get("/login", HTTP_ACCEPT_LANGUAGE=ZH)
    english = Client().get("/login", HTTP_ACCEPT_LANGUAGE="de,en;q=0.5")
    assert '<html lang="zh-hans">' in chinese.content.decode()
    assert "登录" in chinese.content.decode()
    assert '<html lang="en">' in english.content.decode()
    assert "Sign in" in english.content.decode()
    for response in (chinese, english):
        assert {"Accept-Language", "Cookie"} <= set(re.split(r",\s*", response["Vary"]))


def test_a_choice_wins_over_the_browser_and_can_be_taken_back() -> None:
    client = Client(HTTP_ACCEPT_LANGUAGE=ZH)
    response = client.post("/language", {"language": "en", "next": "/reset"})
    assert (response.status_code, response["Location"]) == (302, "/reset")
    cookie = response.cookies["language"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")
    assert '<html lang="en">' in client.get("/login").content.decode()
    client.post("/language", {"language": ""})
    assert '<html lang="zh-hans">' in client.get("/login").content.decode()


@pytest.mark.parametrize("language", ["xx", "zh-hans\r\nX: y", "../en"])
def test_a_language_that_there_is_not_is_no_choice(language: str) -> None:
    client = Client()
    assert client.post("/language", {"language": language}).status_code == 302
    assert not client.cookies["language"].value


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_choosing_leads_to_pages_of_ours_only(address: str) -> None:
    assert Client().post("/language", {"language": "en", "next": address})["Location"] == "/"


def test_choosing_needs_the_token_of_a_form() -> None:
    assert Client(enforce_csrf_checks=True).post("/language", {"language": "en"}).status_code == 403


def test_the_account_page_offers_the_languages(owner: Client) -> None:
    english = owner.get("/account").content.decode()
    assert 'value="zh-hans" lang="zh-hans">简体中文' in english
    assert 'value="en" lang="en" aria-pressed="true">English' in english
    # Each in its own words, so that who cannot read the page finds it.
    chinese = owner.get("/account", HTTP_ACCEPT_LANGUAGE=ZH).content.decode()
    assert 'value="zh-hans" lang="zh-hans" aria-pressed="true">简体中文' in chinese
    assert 'value="en" lang="en">English' in chinese


def test_programs_are_answered_in_english(owner: Client, party: Party) -> None:
    client = Client(HTTP_ACCEPT_LANGUAGE=ZH)
    assert "登录" in client.get("/login").content.decode()
    answer = client.get("/api/v1/datasets/00000000-0000-0000-0000-000000000000", **party.auth)
    assert answer.json()["title"] == "Not found"
    assert "Content-Language" not in answer
    assert translation.get_language() == "en"


def test_refusals_of_services_speak_the_language_of_the_page(person: Callable[..., Client]) -> None:
    owner = person("owner")
    page = owner.get("/assets/00000000-0000-0000-0000-000000000000", HTTP_ACCEPT_LANGUAGE=ZH)
    assert (page.status_code, "页面不存在" in page.content.decode()) == (404, True)
    refused = person("viewer").get("/keys", HTTP_ACCEPT_LANGUAGE=ZH, HTTP_ACCEPT="application/json")
    assert refused.json()["title"] == "不允许"


# --- How values are written ---

MOMENT = dt.datetime(2026, 3, 5, 17, 4, 9, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("language", "shown", "text"),
    [
        ("en", "minute", '5 Mar 2026, 17:04<span class="zone"> UTC</span>'),
        ("en", "second", '5 Mar 2026, 17:04:09<span class="zone"> UTC</span>'),
        ("en", "day", "5 Mar 2026"),
        ("en", "time", '17:04<span class="zone"> UTC</span>'),
        ("zh-hans", "minute", '2026年3月5日 17:04<span class="zone"> UTC</span>'),
        ("zh-hans", "day", "2026年3月5日"),
    ],
)
def test_a_moment_is_in_utc_for_the_script_to_make_local(language: str, shown: str, text: str) -> None:
    template = engines["django"].from_string("{% load console_tags %}{% moment at shown %}")
    with translation.override(language):
        element = template.render(
            {"at": MOMENT.astimezone(dt.timezone(dt.timedelta(hours=8))), "shown": shown}
        )
    assert f'datetime="2026-03-05T17:04:09.000Z" data-moment="{shown}"' in element
    assert element.endswith(f">{text}</time>")


def test_a_moment_that_has_not_come_is_a_dash() -> None:
    assert console_tags.moment(None) == "–"


def test_codes_have_words_in_both_languages() -> None:
    assert (console_tags.label("running", "state"), console_tags.kind_name("embed_asset")) == (
        "running",
        "Embed an asset",
    )
    assert console_tags.label("something_new", "state") == "something_new"
    with translation.override("zh-hans"):
        assert (console_tags.label("running", "state"), console_tags.label("owner", "role")) == (
            "运行中",
            "所有者",
        )


#: Their templates write the label, or show none.
LABELLED_ELSEWHERE = {
    *(
        "UploadForm.caption",
        "UploadForm.metadata",
        "UploadForm.text",
        "ConfirmForm.name",
        "SignInForm.username",
    ),
    *(
        "GenerateForm.outputs",
        "RotateForm.overlap",
        "FinetuneForm.method",
        "FinetuneForm.stage",
        "SinceForm.hours",
    ),
}


def test_every_field_of_a_form_has_a_label_of_its_own() -> None:
    """Else Django makes one of the field's name, in English."""
    unlabelled = {
        f"{form.__name__}.{name}"
        for form in _forms()
        for name, field in form.base_fields.items()
        if field.label is None and not field.widget.is_hidden
    }
    assert unlabelled == LABELLED_ELSEWHERE


def _forms() -> list[Any]:
    import backoffice
    import console

    found = []
    for package in (console, backoffice):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for one in vars(importlib.import_module(module.name)).values():
                if isinstance(one, type) and issubclass(one, BaseForm) and one.__module__ == module.name:
                    found.append(one)
    return found


def test_every_kind_of_job_has_words() -> None:
    from tenants.jobs.kinds import KINDS

    with translation.override("zh-hans"):
        alike = [name for name, kind in KINDS.items() if str(kind.label).isascii()]
    assert KINDS and alike == []


def test_every_verb_of_the_log_has_words() -> None:
    from console.labels import VERBS
    from tenants.events import access_log

    verbs = set()
    for folder in ("tenants", "platform/console", "platform/api", "workers"):
        for path in (messages.ROOT / folder).rglob("*.py"):
            verbs |= set(re.findall(r'verb="([a-z_]+\.[a-z_]+)"', path.read_text()))
    verbs |= {access_log.SIGNED_IN, access_log.SIGNED_OUT, access_log.SIGN_IN_FAILED, access_log.REFUSED}
    assert verbs - set(VERBS) == set()


def test_a_file_that_cannot_be_decoded_is_refused_in_the_language_of_the_page() -> None:
    with translation.override("zh-hans"):
        error = problems.of_media(MediaError("damaged", "the picture is damaged: its end is missing"))
    assert error.detail == "图片已损坏：末尾缺失"
