"""Small and fast models: ``python -m ml.compression COMMAND``.

``prepare`` makes the bundled ONNX INT8 files, ``measure`` compares them to fp32, ``export`` turns any encoder into
``onnx:NAME``, ``list`` shows what was exported, ``distil`` trains a small text tower towards a large one.
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
    if options.command == "distil":
        return _distil(options)
    return _measure() if options.command == "measure" else _list()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ml.compression", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("prepare", help="export and quantise the bundled models (idempotent)")
    command.add_argument("--out", type=Path, default=None, help="default: CROSSLIGHT_MODELS, …")
    commands.add_parser("measure", help="print latency and likeness against torch fp32, one thread")
    commands.add_parser("list", help="what was exported")
    command = commands.add_parser("export", help="turn an encoder into onnx:NAME, if it stays close to fp32")
    command.add_argument("spec", help="hf:<id or folder>, torchvision:<model>#<weights>, bundled:<id>")
    command.add_argument("--name", required=True)
    command.add_argument(
        "--calibration", type=Path, help="a folder of pictures, or of .txt files; default: bundled"
    )
    command.add_argument("--precision", choices=("int8", "fp32"), default="int8")
    command = commands.add_parser("distil", help="train a small text tower; then export hf:OUT/space")
    command.add_argument(
        "--out", type=Path, required=True, help="the run's folder; the same one goes on after a kill"
    )
    command.add_argument(
        "--texts", nargs="*", default=[], help=".txt and .jsonl files or folders, beside what is bundled"
    )
    command.add_argument("--teacher", default="bundled:minilm", help="any encoder of texts")
    command.add_argument(
        "--student", default="", help="a folder of a BERT-like model to start from; default: MiniLM's"
    )
    command.add_argument("--layers", default="0,4,5", help="which of its layers stay")
    command.add_argument("--feed-forward", type=float, default=1.0, help="share of inner units that stay")
    command.add_argument("--vocabulary", type=int, default=12_000, help="word pieces that stay")
    command.add_argument("--epochs", type=int, default=1)
    command.add_argument("--minutes", type=float, default=None, help="stop then, with what was learnt so far")
    return parser


def _measure() -> int:
    from ml.compression.measure import measure

    print("\n".join(measure()))
    return 0


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


def _distil(options: argparse.Namespace) -> int:
    from ml.compression.distilling import distil
    from ml.training.objective import TrainingError

    shape = {
        "teacher": options.teacher,
        "student": options.student,
        "layers": [int(number) for number in options.layers.split(",")],
        "feed_forward": options.feed_forward,
        "vocabulary": options.vocabulary,
    }
    try:
        folder = distil(
            options.out,
            options.texts,
            shape,
            options.epochs,
            lambda line: print(line, flush=True),
            options.minutes,
        )
    except TrainingError as error:
        print(f"distil: {error}", file=sys.stderr)
        return 1
    print(
        f"the student is hf:{folder}: export it with `python -m ml.compression export hf:{folder} --name NAME`"
    )
    return 0


def _list() -> int:
    from ml.compression.exports import list_exports

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
