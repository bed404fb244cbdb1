"""``python -m research.alignment build --out FOLDER``: make the joint space from the bundled phrases and encoder.

``recipe article`` fits the traditional method over any two encoders, for those who want to compare.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import ml

# space.SHIPPED again: importing it would load NumPy before its threads are set.
SHIPPED = Path(ml.__file__).parent / "alignment" / "spaces" / "prior-1"
TEXT_ENCODER = "bundled:minilm"
IMAGE_ENCODERS = ["bundled:efficientnet-lite2", "bundled:efficientnet-lite0"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status comes back."""
    parser = argparse.ArgumentParser(prog="python -m research.alignment", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="write space.safetensors and manifest.json")
    command.add_argument("--out", type=Path, default=SHIPPED, help="default: the shipped space's folder")
    command = commands.add_parser("recipe", help="a space after a published recipe")
    command.add_argument("recipe", choices=("article",))
    command.add_argument("--text", required=True, help="an encoder of texts, such as onnx:bert")
    command.add_argument("--image", required=True, help="an encoder of pictures, such as onnx:resnet101")
    command.add_argument(
        "--pairs", nargs="+", required=True, help="WebDataset .tar or Parquet files, or folders"
    )
    command.add_argument("--method", default="PCA-256 + ridge", help="or Procrustes, or 'regularised CCA'")
    command.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    return _build(options.out) if options.command == "build" else _recipe(options)


def _build(out: Path) -> int:
    # Sums split over threads round differently: one thread, set before NumPy loads, gives equal bytes.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from ml.alignment.storage import write_space
    from ml.encoders.base import load_encoder
    from research.alignment.build import build_arrays, bundled_knowledge, manifest

    started = time.monotonic()
    encoder = load_encoder(TEXT_ENCODER)
    knowledge = bundled_knowledge()
    arrays = build_arrays(knowledge, encoder.encode)
    encoders = {"text": TEXT_ENCODER, "text_version": encoder.version, "image": IMAGE_ENCODERS}
    write_space(out, arrays, manifest(knowledge, encoders))
    print(f"space written to {out} ({time.monotonic() - started:.1f} s)")
    return 0


def _recipe(options: argparse.Namespace) -> int:
    from ml.encoders.base import EncoderUnavailable
    from research.alignment.recipes import RecipeError, article

    try:
        done = article(options.text, options.image, options.pairs, options.out, options.method)
    except (RecipeError, EncoderUnavailable, LookupError, ValueError) as error:
        print(f"recipe: {error}", file=sys.stderr)
        return 1
    print(
        f"{done['method']} on {done['pairs']} pairs ({done['unreadable']} unreadable): space written to {options.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
