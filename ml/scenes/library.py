"""Designs that a scene may take where the drawing model's own drawing is not recognised, and the names of all of them.

``python -m research.scenes`` builds the folder. Names are read without decoding a design: the web process asks for
them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parent / "library"

#: What a design that was taken has to be named with: its set, the licence of that, and its authors.
SETS: dict[str, dict[str, str]] = {
    "fluent": {
        "name": "Fluent UI Emoji",
        "licence": "MIT",
        "author": "Microsoft Corporation",
        "source": "https://github.com/microsoft/fluentui-emoji",
    },
    "twemoji": {
        "name": "Twemoji",
        "licence": "CC BY 4.0",
        "author": "Twitter, Inc and other contributors",
        "source": "https://github.com/jdecked/twemoji",
    },
}


class LibraryError(RuntimeError):
    """Files are missing or damaged; the message says which."""


@dataclass(frozen=True)
class Thing:
    """``number`` in the library; ``size`` beside others, 0 to 1; ``sky``: it floats where others stand."""

    number: int
    label: str
    chinese: str
    source: str
    size: float
    sky: bool


@dataclass(frozen=True)
class Library:
    """``words``: by language, every name in lower case to the number of its thing."""

    things: tuple[Thing, ...]
    words: Mapping[str, Mapping[str, int]]
    places: tuple[tuple[int, int], ...]
    digest: str


@cache
def library() -> Library:
    """Names and places of all things, once a process. Raises LibraryError."""
    path = FOLDER / "things.json"
    try:
        about: dict[str, Any] = json.loads(path.read_text("utf-8"))
        things = tuple(
            Thing(at, row["label"], row["zh"], row["set"], row["size"], row["sky"])
            for at, row in enumerate(about["things"])
        )
        places = tuple((row["at"][0], row["at"][1]) for row in about["things"])
        return Library(things, about["words"], places, about["sha256"])
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise LibraryError(f"{path} cannot be read: {error}") from error


@lru_cache(maxsize=64)
def design(number: int) -> NDArray[np.uint8]:
    """A thing's design, trimmed: uint8 [h, w, 4] with its transparency. Raises LibraryError."""
    from PIL import Image

    start, length = library().places[number]
    try:
        with (FOLDER / "designs.bin").open("rb") as file:
            file.seek(start)
            picture = Image.open(io.BytesIO(file.read(length))).convert("RGBA")
    except (OSError, ValueError) as error:
        raise LibraryError(f"{FOLDER / 'designs.bin'} cannot be read: {error}") from error
    pixels = np.asarray(picture)
    pixels.flags.writeable = False
    return pixels
