"""Short written cases that show what a text model can and cannot do, by function.

In the spirit of HateCheck (Röttger et al. 2021, arXiv:2012.15606), with cases of our own: each function is one thing
that people do with words, such as a threat, or quoting a slur to object to it. No model here was trained on them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).with_name("functional_tests")
#: A group is named and nobody attacked: a model that flags these silences those whom it should protect.
IDENTITY = ("identity_neutral", "identity_positive", "identity_in_first_person")

_LOOKALIKES = str.maketrans("aeocpxiy", "аеосрхіу")
_LEET = str.maketrans("aeiost", "@3!05t")


@dataclass(frozen=True)
class Case:
    """``hate`` is None where the language's model does not tell hate from other abuse."""

    function: str
    text: str
    abuse: bool
    hate: bool | None


def cases(language: Literal["en", "zh"]) -> list[Case]:
    """Every template with every word in its place, in a fixed order."""
    lines = (FOLDER / f"{language}.jsonl").read_text("utf-8").splitlines()
    head, *functions = [json.loads(line) for line in lines if line.strip()]
    by_name = {entry["function"]: entry for entry in functions}
    return [case for entry in functions for case in _cases(entry, by_name, head["slots"])]


def _cases(entry: dict[str, Any], by_name: dict[str, Any], slots: dict[str, list[str]]) -> Iterator[Case]:
    source = by_name[entry.get("like", entry["function"])]
    change = CHANGES[entry["change"]] if "change" in entry else None
    for template in source["texts"]:
        for text in _filled(template, slots, change):
            yield Case(entry["function"], text, source["abuse"], source.get("hate"))


def _filled(template: str, slots: dict[str, list[str]], change: Callable[[str], str] | None) -> Iterator[str]:
    """All fillings; a change of spelling meets the words that carry the offence, not the group's name."""
    names = sorted(set(re.findall(r"{(\w+)}", template)))
    for words in itertools.product(*(slots[name] for name in names)):
        filling = dict(zip(names, words, strict=True))
        offence = {"slur", "insult"} & set(names)
        if change and offence:
            filling |= {name: change(filling[name]) for name in offence}
        parts = re.split(r"({\w+})", template)
        if change and not offence:
            parts = [part if part.startswith("{") else change(part) for part in parts]
        text = "".join(parts).format(**filling)
        yield text[:1].upper() + text[1:]


def _swapped(text: str) -> str:
    """The second and third letter of each long word change places."""
    return re.sub(r"\b([a-z])([a-z])([a-z])(?=[a-z])", r"\1\3\2", text)


CHANGES: dict[str, Callable[[str], str]] = {
    "leet": lambda text: text.translate(_LEET),
    "homoglyphs": lambda text: text.translate(_LOOKALIKES),
    "spaced": lambda text: " ".join(text),
    "starred": lambda text: "*".join(text),
    "invisible": lambda text: "\u200b".join(text),
    "repeated": lambda text: re.sub(r"[aeiou]", lambda found: found.group() * 4, text),
    "swapped": _swapped,
}
