"""4,354 Chinese sentences with translations: fetched by `python benchmarks/_learning_chinese_sentences.py`.

They serve measuring alone. From PyPI's hsk-sentences-audio (code MIT, sentences CC BY-SA 4.0), installed into
$DATA_DIR/bench/chinese, nowhere else.
"""

from __future__ import annotations

import json
import subprocess
import sys

from _data import OUT

FOLDER = OUT / "chinese" / "python"
FILE = FOLDER / "hsk_sentences_audio" / "data" / "sentences.json"


def pairs() -> list[tuple[str, str]] | None:
    """(Chinese, English), or None, said plainly, where they were not fetched."""
    if not FILE.is_file():
        print("skipped: no sentences; `python benchmarks/_learning_chinese_sentences.py` fetches them")
        return None
    return [(row["chinese"], row["translation"]["en"]) for row in json.loads(FILE.read_text("utf-8"))]


def main() -> int:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(FOLDER)]
    subprocess.run([*pip, "hsk-sentences-audio==1.0.0"], check=True)
    print(f"{len(pairs() or [])} sentences in {FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
