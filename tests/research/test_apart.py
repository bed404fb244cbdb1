"""What only trains or measures stands apart: not in the wheel, and nothing of it is left in ``ml``."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = (
    "platform/config",
    "platform/standalone",
    "platform/api",
    "platform/console",
    "platform/backoffice",
)
#: Folders of plug-ins: found by file name, imported by nobody.
CATALOGS = ("ml.encoders", "ml.detectors", "ml.generators", "ml.indexes.kinds", "ml.training.objectives")
#: Commands of the product.
COMMANDS = ("ml.compression.__main__", "ml.training.__main__")


def modules_below(*folders: str) -> dict[str, Path]:
    """Modules by dotted name."""
    found = {}
    for folder in folders:
        base = ROOT / folder
        for path in base.rglob("*.py"):
            parts = [base.name, *path.relative_to(base).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def named_in(path: Path) -> set[str]:
    """Dotted names that a file imports or names in a string, as commands of other processes are."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("ml."):
            found.add(node.value)
    return found


def test_every_module_of_ml_is_reached_by_the_product() -> None:
    ml = modules_below("ml")
    assert {command for command in COMMANDS if command in ml} == set(COMMANDS)
    plugins = {name for name in ml if name.rpartition(".")[0] in CATALOGS and "._" not in name}
    waiting = [*plugins, *COMMANDS]
    for path in modules_below(*PRODUCT, "tenants", "workers").values():
        waiting += named_in(path)
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in ml and name not in reached:
            reached.add(name)
            waiting += [*named_in(ml[name]), name.rpartition(".")[0]]
    assert sorted(set(ml) - reached) == [], "what only trains or measures belongs to research/"


def test_the_wheel_holds_every_package_but_research() -> None:
    """As setuptools itself reads pyproject.toml."""
    code = (
        "from setuptools import Distribution; made = Distribution(); made.parse_config_files();"
        "print(*made.packages, '|', *(f'{name}/{glob}' for name, globs in made.package_data.items() for glob in globs))"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    packages, data = (part.split() for part in told.stdout.split("|"))
    there = modules_below(*PRODUCT, "tenants", "workers", "ml")
    assert sorted(packages) == sorted(name for name, path in there.items() if path.name == "__init__.py")
    assert {name.partition(".")[0] for name in packages}.isdisjoint({"research", "tests", "benchmarks"})
    for entry in data:
        package, _, pattern = entry.partition("/")
        assert list(there[package].parent.glob(pattern)), f"no file is {pattern} in {package}"
