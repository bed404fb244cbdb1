"""What decoders, workers and trainings kept in English reaches readers in their language."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.utils import translation

from console.kept_sentences import PATTERNS, translated_sentence, values_of
from ml.training import quality
from standalone import catalogue

ROOT = Path(__file__).resolve().parents[2]
VALUE = "42"


@pytest.fixture(autouse=True, scope="module")
def _catalogues_are_compiled() -> None:
    catalogue.compile_all()


def said_by_decoders() -> Iterator[str]:
    """The message of each MediaError that is written down, with something in the place of its values."""
    for path in sorted([*(ROOT / "ml").rglob("*.py"), *(ROOT / "tenants").rglob("*.py")]):
        source = path.read_text()
        if "MediaError(" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", "") == "MediaError"
                and len(node.args) == 2
            ) and (text := _filled(node.args[1])) is not None:
                yield text


def said_by_detectors() -> Iterator[str]:
    """Why detectors do not look: each sentence, and all that `missing` answers."""
    for path in sorted([*(ROOT / "ml/detectors").rglob("*.py"), *(ROOT / "ml/auditing").glob("*.py")]):
        yield from _Reasons(ast.parse(path.read_text())).found


class _Reasons(ast.NodeVisitor):
    """Without docstrings, what a class says of itself (`sees`), what is raised, and what is logged."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[str] = []
        self._in_missing = False
        self.visit(tree)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        outside, self._in_missing = self._in_missing, node.name == "missing"
        self.generic_visit(node)
        self._in_missing = outside

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for one in node.body:
            if not isinstance(one, ast.Assign | ast.AnnAssign):
                self.visit(one)

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_Constant(self, node: ast.Constant) -> None:
        self._take(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._take(node)

    def _take(self, node: ast.expr) -> None:
        text = _filled(node) or ""
        sentence = re.match(r"[A-Z][^|?]* .*[.:)]$", text) or re.match(r"[A-Z].* cannot ", text)
        if sentence or (self._in_missing and " " in text.strip(" ,")):
            self.found.append(text)


def _filled(message: ast.expr) -> str | None:
    if isinstance(message, ast.Constant):
        return str(message.value)
    if isinstance(message, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else VALUE for part in message.values
        )
    return None


def test_whatever_a_decoder_says_is_known() -> None:
    said = list(said_by_decoders())
    assert len(said) > 25
    assert [text for text in said if not any(values_of(one, text) is not None for one in PATTERNS)] == []


def test_whatever_a_detector_gives_as_its_reason_is_known() -> None:
    said = list(said_by_detectors())
    assert len(said) > 45
    assert [text for text in said if not any(values_of(one, text) is not None for one in PATTERNS)] == []


def test_whatever_is_told_of_training_pairs_is_known() -> None:
    report = {
        "unreadable": 3,
        "duplicates": {"exact": 31, "near": 5},
        "leaks": {"near": 2},
        "groups": {"largest_share": 0.9},
    }
    notes = quality._notes(report)
    assert len(notes) == 5
    with translation.override("zh-hans"):
        assert [note for note in notes if re.search("[A-Za-z]", translated_sentence(note))] == []


def test_values_stay_as_they_are() -> None:
    with translation.override("zh-hans"):
        text = translated_sentence(
            "Gave up after 3 attempts: each time the worker stopped without an answer."
        )
        assert "3" in text
        assert not re.search("[A-Za-z]", text)
        assert "KeyError" in translated_sentence("KeyError in the worker; its log has the details.")
        assert translated_sentence("the picture is damaged: its end is missing") == "图片已损坏：末尾缺失"
        assert translated_sentence("Somebody's own words.") == "Somebody's own words."
    with translation.override("en"):
        assert (
            translated_sentence("5 pairs of pictures are nearly the same.")
            == "5 pairs of pictures are nearly the same."
        )


def test_a_text_is_of_a_pattern_as_a_whole_and_no_value_is_empty() -> None:
    pattern = "the %(kind)s file is damaged (%(reason)s): upload it again"
    text = "the MP4 file is damaged (moov (2): gone): upload it again"
    assert values_of(pattern, text) == {"kind": "MP4", "reason": "moov (2): gone"}
    for other in (f"{text} soon", f"Today {text}", text.replace("MP4", ""), "", "the "):
        assert values_of(pattern, other) is None
    assert values_of("there is no file", "there is no file") == {}
