"""How the code is built, counted from its sources (`make bench-structure`): sizes, imports, what checkers do not see.

BASE=revision counts that one beside the working tree. Of a package: files that hold something, floors (the longest way
down its imports; a circle is one floor), arrows (imports between its files, those in functions included) and circles.
"""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from _report import ROOT, Report, sized

PRODUCT = ("platform", "tenants", "ml", "workers")
PACKAGES = sized(
    ("tenants.retrieval", "tenants.moderation", "tenants.pipeline", "tenants.jobs", "console", "api", "ml"),
    ("tenants.jobs",),
)
BASE = os.environ.get("BASE", "")


def product(root: Path) -> list[Path]:
    """Sources of the product, without migrations."""
    paths = (path for name in PRODUCT for path in (root / name).rglob("*.py"))
    return sorted(path for path in paths if not {"migrations", "node_modules"} & set(path.parts))


# --- Sizes and what checkers do not see ------------------------------------------------------------------


def sizes(root: Path) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for path in product(root):
        text = path.read_text()
        tree = ast.parse(text)
        counted["product: files"] += 1
        counted["product: lines"] += text.count("\n")
        counted["lines with dict[str, Any]"] += sum("dict[str, Any]" in line for line in text.splitlines())
        counted["Any in annotations"] += sum(map(_anys, _annotations(tree)))
        counted["type: ignore"] += text.count("# type: ignore")
        counted["noqa"] += text.count("# noqa")
    for path in (root / "research").rglob("*.py"):
        counted["research: files"] += 1
        counted["research: lines"] += path.read_text().count("\n")
    return dict(counted)


def _annotations(tree: ast.Module) -> list[ast.expr]:
    found: list[ast.expr | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.returns)
    return [one for one in found if one is not None]


def _anys(annotation: ast.expr) -> int:
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(annotation))


# --- Imports ---------------------------------------------------------------------------------------------


def modules_of(root: Path, package: str) -> dict[str, Path]:
    """Files of a package by their dotted names."""
    folder = next(
        (path for path in (root, root / "platform") if (path / package.replace(".", "/")).is_dir()), root
    )
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (folder / package.replace(".", "/")).rglob("*.py")
        if "migrations" not in path.parts
    }


def imports_between(modules: dict[str, Path]) -> dict[str, set[str]]:
    arrows: dict[str, set[str]] = defaultdict(set)
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                meant = [f"{node.module}.{one.name}" for one in node.names]
                arrows[name] |= {one if one in modules else node.module for one in meant}
            elif isinstance(node, ast.Import):
                arrows[name] |= {one.name for one in node.names}
        arrows[name] = (arrows[name] & modules.keys()) - {name}
    return arrows


def reachable(arrows: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in arrows[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def built(root: Path, package: str) -> dict[str, int]:
    modules = modules_of(root, package)
    arrows = imports_between(modules)
    below = {name: reachable(arrows, name) for name in modules}
    # Those that reach each other stand on one floor.
    circle = {
        name: frozenset({name, *(one for one in below[name] if name in below[one])}) for name in modules
    }
    floors: dict[frozenset[str], int] = {}

    def floor(names: frozenset[str]) -> int:
        if names not in floors:
            under = {circle[one] for name in names for one in arrows[name]} - {names}
            floors[names] = 1 + max(map(floor, under), default=0)
        return floors[names]

    return {
        "files": sum(path.stat().st_size > 0 for path in modules.values()),
        "floors": max(map(floor, set(circle.values())), default=0),
        "arrows": sum(map(len, arrows.values())),
        "circles": len({names for names in circle.values() if len(names) > 1}),
    }


# --- Two trees -------------------------------------------------------------------------------------------


def count(root: Path) -> dict[str, int]:
    found = sizes(root)
    for package in PACKAGES:
        found |= {f"{package}: {what}": value for what, value in built(root, package).items()}
    return found


def at_revision(revision: str) -> dict[str, int]:
    packed = subprocess.run(
        ["git", "archive", revision, *PRODUCT], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
        return count(Path(folder))


def main() -> int:
    report = Report("structure")
    now = report.run("the working tree", lambda: count(ROOT))
    before = report.run(f"revision {BASE}", lambda: at_revision(BASE)) if BASE else {}
    if now is None or before is None:
        return report.finish({})
    print(f"\n{'':40}{BASE[:12] or '':>12}{'now':>12}")
    for name, value in now.items():
        print(f"{name:40}{before.get(name, ''):>12}{value:>12}")
    return report.finish({"now": now, "before": before})


if __name__ == "__main__":
    sys.exit(main())
