"""Where an installed package lies: servers and Node come as packages of which only the files are used."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from standalone.errors import StackError


def package_folder(name: str) -> Path:
    """Found without importing it: these packages do work (and warn) at import."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise StackError(f"The package {name} is not installed: run `make run`, which installs it.")
    return Path(spec.origin).parent
