"""The front end's sources and what is built from them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from standalone.frontend import OUTPUT

PLATFORM = Path(__file__).resolve().parents[2] / "platform"
CONSOLE = PLATFORM / "console"
SOURCES = CONSOLE / "frontend"
MAX_SCRIPT = 200_000


def test_every_icon_that_a_template_names_is_in_the_sprite() -> None:
    folders = (CONSOLE / "templates", PLATFORM / "backoffice" / "templates")
    templates = "".join(path.read_text() for folder in folders for path in folder.rglob("*.html"))
    named = set(re.findall(r'{% icon "([a-z0-9-]+)"', templates)) | _icons_of_the_navigation()
    # What the first page worries about has signs, too.
    overview = (CONSOLE / "home.py").read_text()
    named |= set(re.findall(r'AttentionItem\(.*"([a-z0-9-]+)"(?:, broken=.*)?\)$', overview, re.MULTILINE))
    listed = set(json.loads((SOURCES / "src" / "icons.json").read_text()))
    assert named - listed == set()
    assert listed - named == set()
    sprite = (OUTPUT / "icons.svg").read_text()
    assert all(f'id="{name}"' in sprite for name in named)


def _icons_of_the_navigation() -> set[str]:
    from backoffice.navigation import navigation
    from console.context_processors import NAVIGATION

    return {symbol for _, entries in (*NAVIGATION, *navigation()) for _, _, symbol, _ in entries}


def test_the_script_is_small() -> None:
    script = (OUTPUT / "app.js").read_bytes()
    assert len(script) < MAX_SCRIPT


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((SOURCES / "package-lock.json").read_text())
    assert [name for name, entry in lock["packages"].items() if "resolved" in entry] == []
    assert all("integrity" in entry for name, entry in lock["packages"].items() if name)


def test_the_scripts_types_fit() -> None:
    compiler = SOURCES / "node_modules" / ".bin" / "tsc"
    if not compiler.exists() or not shutil.which("node"):
        pytest.skip("no Node on the path, or the front end's packages are not installed")
    done = subprocess.run(
        [compiler, "--noEmit"], cwd=SOURCES, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout
