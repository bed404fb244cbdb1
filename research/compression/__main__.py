"""Small models: ``python -m research.compression COMMAND``.

``distil`` trains a small text tower towards a large one; ``measure`` compares the bundled INT8 files to fp32.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status comes back."""
    options = _parser().parse_args(arguments)
    return _distil(options) if options.command == "distil" else _measure()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m research.compression", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("measure", help="print latency and likeness against torch fp32, one thread")
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
    from research.compression.measure import measure

    print("\n".join(measure()))
    return 0


def _distil(options: argparse.Namespace) -> int:
    from ml.training.plan import TrainingError
    from research.compression.distilling import distil

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


if __name__ == "__main__":
    sys.exit(main())
