"""Install, lint and test under each Python that `pyproject.toml` promises: those found, and which are missing.

Each has an environment of its own below `var/matrix`, which a later run uses again; `.venv` is left as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from standalone.config import ROOT
from standalone.install import PYTHONS

FAST = {"CROSSLIGHT_TEST_SERVICES": "off"}


def main() -> int:
    found = {version: find_python(version) for version in PYTHONS}
    for version, python in found.items():
        print(f"{version}: {python or 'not on this machine'}", flush=True)
    failed = [line for version, python in found.items() if python for line in failures(version, python)]
    missing = [version for version, python in found.items() if python is None]
    for line in failed:
        print(f"failed: {line}")
    print(
        f"tried: {', '.join(v for v in PYTHONS if found[v]) or 'none'}; missing: {', '.join(missing) or 'none'}"
    )
    return 1 if failed or len(missing) == len(PYTHONS) else 0


def find_python(version: str) -> str | None:
    """Of that version, on the path or among pyenv's; a shim that starts nothing does not count."""
    among = sorted(
        Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv").glob(f"versions/{version}.*/bin/python"),
        key=lambda path: [int(part) for part in re.findall(r"\d+", path.parts[-3])],
    )
    for candidate in [shutil.which(f"python{version}"), *map(str, reversed(among))]:
        if candidate and version_of(candidate) == version:
            return candidate
    return None


def version_of(python: str) -> str | None:
    command = [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def failures(version: str, python: str) -> list[str]:
    """Each step's name that failed; nothing after a failed installation is tried."""
    venv = ROOT / "var" / "matrix" / version
    venv.parent.mkdir(parents=True, exist_ok=True)
    if not passed(
        version, "install", [python, "platform/standalone/install.py", "--dev"], CROSSLIGHT_VENV=str(venv)
    ):
        return [f"{version} install"]
    tools = str(venv / "bin")
    steps = {
        "lint": ["make", "--no-print-directory", "lint-tools", f"BIN={tools}"],
        "tests": [f"{tools}/python", "-m", "pytest", "-q", "-n", "2"],
    }
    return [
        f"{version} {name}" for name, command in steps.items() if not passed(version, name, command, **FAST)
    ]


def passed(version: str, name: str, command: list[str], **settings: str) -> bool:
    begun = time.monotonic()
    print(f"\n{version} {name}: {' '.join(command)}", flush=True)
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, **settings}, check=False).returncode
    print(
        f"{version} {name}: {'ok' if ended == 0 else f'status {ended}'}, {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    return ended == 0


if __name__ == "__main__":
    sys.exit(main())
