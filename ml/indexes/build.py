"""``python -m ml.indexes.build FOLDER``: builds a generation in a process of its own.

faiss's threads and memory end with it, and it may be killed at any moment: without ``manifest.json`` the
folder is nothing. It ends by itself when its standard input closes, so a parent that dies leaves no orphan.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml import sandbox


def main(argv: Sequence[str] | None = None) -> int:
    """Prints progress as JSON lines, and as the last one the manifest or ``{"error": …}``.

    Exit status 0 only with a finished manifest.
    """
    options = _options(argv)
    sandbox.confine("index", write=[options.folder.resolve()])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(options.nice)
    for library in ("OMP", "OPENBLAS", "MKL"):
        os.environ[f"{library}_NUM_THREADS"] = str(options.threads)
    try:
        _say(_build(options))
    except Exception as error:
        _say({"error": f"{type(error).__name__}: {error}"})
        return 1
    return 0


def _build(options: argparse.Namespace) -> dict[str, Any]:
    # Only now: numpy and faiss read the number of threads when they are loaded.
    import numpy as np

    from ml.indexes.generation import QUERIES, build

    path = options.folder / QUERIES
    queries = np.fromfile(path, np.dtype("<f4")).reshape(-1, options.dimension) if path.exists() else None
    manifest = build(
        options.folder,
        model=options.model,
        seq=options.seq,
        dimension=options.dimension,
        queries=queries,
        target=options.target,
        kind=options.kind,
        threads=options.threads,
        report=lambda done, step: _say({"done": round(done, 4), "step": step}),
    )
    return manifest.as_json()


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ml.indexes.build", description=__doc__)
    parser.add_argument("folder", type=Path, help="with vectors.f32, columns/ and perhaps queries.f32")
    parser.add_argument("--model", required=True, help="what encoded the vectors")
    parser.add_argument("--seq", type=int, required=True, help="the newest sequence number inside")
    parser.add_argument("--dimension", type=int, required=True, help="numbers of a vector")
    parser.add_argument("--target", type=float, default=0.99, help="recall@10 to reach")
    parser.add_argument("--kind", help="one of ml/indexes/kinds; chosen by itself when not given")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--nice", type=int, default=10)
    return parser.parse_args(argv)


def _end_with_parent() -> None:
    """Wait for the end of standard input, then end the process at once, in the middle of whatever it does."""
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(3)


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
