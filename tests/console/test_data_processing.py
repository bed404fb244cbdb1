"""Data, Data processing: what is kept where, in the reader's language."""

from __future__ import annotations

from typing import Any

from django.test import Client


def test_the_page_is_shown_in_the_readers_language(owner: Client, settings: Any) -> None:
    settings.DATA_REGION = "Frankfurt <DE>"
    shown = owner.get("/data/processing").content.decode()
    for words in ("Frankfurt &lt;DE&gt;", "Data processing", "until no asset uses them"):
        assert words in shown
    owner.cookies[settings.LANGUAGE_COOKIE_NAME] = "zh-hans"
    shown = owner.get("/data/processing").content.decode()
    for words in ("数据处理", "直到没有资产再引用它们"):
        assert words in shown
