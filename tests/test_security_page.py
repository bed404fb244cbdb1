"""docs/security.md promises nothing whose proof is not there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
PROOF = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_test_that_is_named_is_there() -> None:
    named = PROOF.findall(PAGE)
    assert len(named) >= 60
    assert [f"{file}::{name}" for file, name in named if name not in names_in(file)] == []


def test_every_file_of_tests_that_is_named_is_there() -> None:
    files = re.findall(r"pytest ((?:tests/[\w/]+\.py ?)+)", PAGE)
    assert [file for line in files for file in line.split() if not (ROOT / file).is_file()] == []


def test_every_yes_has_a_proof_or_a_page() -> None:
    rows = re.findall(r"^\| (.+) \| (Yes[^|]*) \| ?(.*?) ?\|$", PAGE, re.MULTILINE)
    assert len(rows) > 30
    unproved = [
        question for question, answer, proof in rows if not proof and "](" not in answer and "`" not in answer
    ]
    assert unproved == []
