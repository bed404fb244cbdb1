"""Small and fast models: ``python -m ml.compression COMMAND``.

``prepare`` makes the bundled ONNX INT8 files, ``export`` turns any encoder into ``onnx:NAME``, ``list`` shows what was
exported.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from ml.compression.store import models_dir


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status comes back."""
    options = _parser().parse_args(arguments)
    if options.command == "prepare":
        return _prepare(options.out or models_dir())
    if options.command == "export":
        return _export(options)
    return _list()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ml.compression", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", help="export and quantise the bundled models (idempotent)")
    command.add_argument("--out", type=Path, default=None, help="default: CROSSLIGHT_MODELS, …")
    commands.add_parser("list", help="what was exported")
    command = commands.add_parser("export", help="turn an encoder into onnx:NAME, if it stays close to fp32")
    command.add_argument("spec", help="hf:<id or folder>, torchvision:<model>#<weights>, bundled:<id>")
    command.add_argument("--name", required=True)
    command.add_argument(
        "--calibration", type=Path, help="a folder of pictures, or of .txt files; default: bundled"
    )
    command.add_argument("--precision", choices=("int8", "half", "fp32"), default="int8")
    return parser


def _export(options: argparse.Namespace) -> int:
    from ml.compression.export import export
    from ml.compression.quantise import ParityError
    from ml.compression.towers import NotExportable
    from ml.encoders.base import EncoderUnavailable

    try:
        found, tried = export(
            options.spec, options.name, calibration=options.calibration, precision=options.precision
        )
    except (ParityError, NotExportable, EncoderUnavailable, LookupError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    for attempt in tried:
        print(f"{attempt.precision}: {attempt.parity.text()}{'' if attempt.kept else ', refused'}")
    print(f"onnx:{found.name} written to {found.folder} ({found.bytes / 1e6:.1f} MB)")
    return 0


def _list() -> int:
    from ml.compression.store import list_exports

    for name, entry in list_exports():
        print(
            f"onnx:{name}  {entry['modality']}  {entry['dimension']}  {entry['precision']}  {entry['spec']}"
        )
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
