"""Write the manifest of prior:2, prior:1 with the bilingual text encoder: ``python -m research.chinese.space``."""

from __future__ import annotations

import json
from pathlib import Path

from ml.alignment.space import SHIPPED
from ml.alignment.storage import MANIFEST, TENSORS
from ml.encoders.base import load_encoder

TEXT_ENCODER = "bundled:bilingual"
FOLDER = SHIPPED.parent / "prior-2"


def main(folder: Path = FOLDER) -> None:
    """Write ``manifest.json``; the tensors are those of the folder beside it."""
    manifest = json.loads((SHIPPED / MANIFEST).read_text("utf-8"))
    text = {"text": TEXT_ENCODER, "text_version": load_encoder(TEXT_ENCODER).version}
    manifest |= {"version": "2", "tensors": f"../{SHIPPED.name}/{TENSORS}"}
    manifest["encoders"] |= text
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
