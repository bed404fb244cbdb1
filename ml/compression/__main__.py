"""``python -m ml.compression prepare [--out DIR]`` makes the ONNX INT8 files; ``measure`` compares them to fp32."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from ml.compression.store import models_dir


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status comes back."""
    parser = argparse.ArgumentParser(prog="python -m ml.compression", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", help="export and quantise the bundled models (idempotent)")
    command.add_argument("--out", type=Path, default=None, help="default: CROSSLIGHT_MODELS, …")
    commands.add_parser("measure", help="print latency and likeness against torch fp32, one thread")
    options = parser.parse_args(arguments)
    return _measure() if options.command == "measure" else _prepare(options.out or models_dir())


def _measure() -> int:
    from ml.compression.measure import measure

    print("\n".join(measure()))
    return 0


def _prepare(out: Path) -> int:
    from ml.compression.prepare import prepare

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    started = time.monotonic()
    try:
        built = prepare(out)
    except RuntimeError as error:
        print(f"prepare: {error}", file=sys.stderr)
        return 1
    print(f"models {'prepared' if built else 'intact'} in {out} ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
