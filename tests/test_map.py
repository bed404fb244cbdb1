"""The map is true: what docs/architecture.md and the how-tos name is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("config", "standalone", "api", "console", "backoffice", "workers", "tenants", "ml", "research")
MAP = ROOT / "docs" / "architecture.md"
PAGES = [MAP, *sorted((ROOT / "docs" / "how-to").glob("*.md"))]
NAMED = re.compile(rf"`((?:{'|'.join(OURS)})(?:\.\w+)+)`")
# A step of a walk: `module.function`, perhaps of a class.
STEP = re.compile(rf"^\d+\. `((?:{'|'.join(OURS)})(?:\.\w+)+)`")
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")


@cache
def sources() -> dict[str, Path]:
    found = {}
    for root in (ROOT, ROOT / "platform"):
        for package in OURS:
            for path in (root / package).rglob("*.py"):
                if "node_modules" not in path.parts:
                    parts = path.relative_to(root).with_suffix("").parts
                    found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def defined(module: str, *, imported: bool = True) -> frozenset[str]:
    """What a module defines or gives on, and of its classes what they define: `Class.method`."""
    body = ast.parse(sources()[module].read_text()).body
    kept = [node for node in body if imported or not isinstance(node, ast.ImportFrom)]
    return frozenset(_defined(kept, ""))


def _defined(body: list[ast.stmt], within: str) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield within + node.name
            if isinstance(node, ast.ClassDef):
                yield from _defined(node.body, f"{within}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (within + name.id for name in targets if isinstance(name, ast.Name))
        elif isinstance(node, ast.ImportFrom) and not within:
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.If | ast.Try):
            yield from _defined(node.body, within)


def split(name: str) -> tuple[str, str]:
    """The longest module in a dotted name, and what is named in it; the module is empty where there is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in sources():
            return module, ".".join(parts[length:])
    return "", name


def is_there(name: str) -> bool:
    module, within = split(name)
    return bool(module) and (not within or within in defined(module))


def walk(title: str) -> list[str]:
    """The steps of a walk of docs/architecture.md, in order."""
    section = MAP.read_text().split(f"\n### {title}\n")[1].split("\n#")[0]
    return [match[1] for line in section.splitlines() if (match := STEP.match(line))]


WALKS = ("Upload", "Search", "Audit decision", "From fine-tune to promotion")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    names = NAMED.findall(text)
    assert [name for name in names if not is_there(name)] == []
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("title", WALKS)
def test_a_walk_names_functions(title: str) -> None:
    steps = walk(title)
    assert 6 <= len(steps) <= 25
    assert [step for step in steps if not split(step)[1]] == []
