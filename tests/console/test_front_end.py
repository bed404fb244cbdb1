"""The front end's sources and what is built from them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from standalone.frontend import OUTPUT
from tests.console import icons

PLATFORM = Path(__file__).resolve().parents[2] / "platform"
CONSOLE = PLATFORM / "console"
SOURCES = CONSOLE / "frontend"
MAX_SCRIPT = 200_000


def test_every_icon_that_is_named_is_in_the_sprite_and_no_other() -> None:
    assert icons.named() == icons.listed(), "make update"
    sprite = (OUTPUT / "icons.svg").read_text()
    assert all(f'id="{name}"' in sprite for name in icons.named())


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
