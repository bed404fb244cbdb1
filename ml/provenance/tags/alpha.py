"""Tags hidden in the lowest bit of a PNG's alpha, which outlive the removal of text chunks ("stealth pnginfo").

Written by NovelAI and by an extension of Stable Diffusion web UI: bits column by column; a signature of 15 bytes, a
length in bits, then JSON or parameters, as text or gzip.
"""

from __future__ import annotations

import json
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image

from ml.provenance.tags.model import MAX_TEXT, Tags, decode

SIGNATURES = {b"stealth_pnginfo": False, b"stealth_pngcomp": True}
MAX_PIXELS = 20_000_000


def read(file: BinaryIO, tags: Tags) -> None:
    """Add what stands in the alpha of the PNG ``file``; nothing for most."""
    file.seek(0)
    try:
        with Image.open(file, formats=["PNG"]) as picture:
            if picture.mode != "RGBA" or picture.width * picture.height > MAX_PIXELS:
                return
            plane = np.asarray(picture.getchannel("A"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return
    bits = np.ascontiguousarray(plane.T).ravel() & 1
    head = np.packbits(bits[: 19 * 8]).tobytes()
    if len(head) < 19 or (packed := SIGNATURES.get(head[:15])) is None:
        return
    size = int.from_bytes(head[15:19]) // 8
    content = np.packbits(bits[19 * 8 : 8 * (19 + min(size, MAX_TEXT))]).tobytes()
    _add(_unzip(content) if packed else content, tags)


def _unzip(content: bytes) -> bytes:
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content, MAX_TEXT)
    except zlib.error:
        return b""


def _add(content: bytes, tags: Tags) -> None:
    text = decode(content)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        tags.add("alpha", "parameters", text)
        return
    for key, value in document.items():
        tags.budget.step()
        tags.add("alpha", str(key), value if isinstance(value, str) else json.dumps(value)[:MAX_TEXT])
