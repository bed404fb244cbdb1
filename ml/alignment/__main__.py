"""``python -m ml.alignment build --out FOLDER``: make the joint space from the bundled phrases and encoder."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

# space.SHIPPED again: importing it would load NumPy before its threads are set.
SHIPPED = Path(__file__).parent / "spaces" / "prior-1"
TEXT_ENCODER = "bundled:minilm"
IMAGE_ENCODERS = ["bundled:efficientnet-lite2", "bundled:efficientnet-lite0"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status comes back."""
    parser = argparse.ArgumentParser(prog="python -m ml.alignment", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="write space.safetensors and manifest.json")
    command.add_argument("--out", type=Path, default=SHIPPED, help="default: the shipped space's folder")
    options = parser.parse_args(arguments)
    return _build(options.out)


def _build(out: Path) -> int:
    # Sums split over threads round differently: one thread, set before NumPy loads, gives equal bytes.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    from ml.alignment.build import build_arrays, bundled_knowledge, manifest
    from ml.alignment.storage import write_space
    from ml.encoders.base import load_encoder

    started = time.monotonic()
    encoder = load_encoder(TEXT_ENCODER)
    knowledge = bundled_knowledge()
    arrays = build_arrays(knowledge, encoder.encode)
    encoders = {"text": TEXT_ENCODER, "text_version": encoder.version, "image": IMAGE_ENCODERS}
    write_space(out, arrays, manifest(knowledge, encoders))
    print(f"space written to {out} ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
