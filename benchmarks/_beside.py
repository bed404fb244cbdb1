"""A program of this folder in one beside a stack, see `_stack.beside`: `python -P _beside.py PROGRAM DATA_DIR`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main(program: str, data_dir: str) -> None:
    sys.path.append(str(Path(__file__).parent))
    from _stack import start_django

    from standalone.stack import Stack

    stack = Stack(Path(data_dir), [], {})
    start_django(stack)
    print(json.dumps(importlib.import_module(program).main(stack, json.load(sys.stdin)), default=str))


if __name__ == "__main__":
    main(*sys.argv[1:])
