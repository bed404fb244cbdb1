"""Spoken queries, clean and made worse, as the recogniser hears them: kept on disk, as hearing takes minutes.

Where nobody has spoken Debian's synthesisers do (``apt-get install espeak-ng flite``); they are only called to make
data to train with.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ml.alignment.confidence import of_speech
from ml.alignment.gating import Part
from research.alignment import corruptions
from research.alignment.composed_queries import (
    CLEAN,
    CachedImages,
    Composed,
    Floats,
    Shot,
    Wanted,
    assembled,
    seeded,
)

if TYPE_CHECKING:
    from ml.encoders.whisper_tiny_en import Transcriber
    from ml.media import Decoder

Samples = NDArray[np.float32]

#: Commands that read a text to a file.
VOICES: dict[str, tuple[str, ...]] = {
    "espeak": ("espeak-ng", "-v", "en-us", "-s", "150", "-w", "{out}", "{text}"),
    "slt": ("flite", "-voice", "slt", "-t", "{text}", "-o", "{out}"),
    "rms": ("flite", "-voice", "rms", "-t", "{text}", "-o", "{out}"),
}


@dataclass(frozen=True)
class Said:
    """A recording: a file, or a text and the voice that reads it; and what is wrong with it."""

    text: str
    voice: str = ""
    path: str = ""
    kind: str = CLEAN

    @property
    def name(self) -> str:
        return f"{self.path or self.voice} {self.text}"


@dataclass(frozen=True)
class Heard:
    text: str
    signs: dict[str, float]


class CachedSpeech:
    """Recordings as the bundled recogniser hears them."""

    def __init__(self, decoder: Decoder, transcriber: Transcriber, cache: Path) -> None:
        self._decoder, self._transcriber, self._cache = decoder, transcriber, cache

    def listen(self, recordings: Sequence[Said], label: str) -> list[Heard]:
        """What is heard in each; what was heard before is not listened to again."""
        path = self._cache / f"heard-{label}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        known = _known(path)
        with path.open("a") as file:
            for one in recordings:
                if _key(one) not in known:
                    known[_key(one)] = asdict(self._heard(one))
                    file.write(json.dumps([_key(one), known[_key(one)]]) + "\n")
                    file.flush()
        return [Heard(**known[_key(one)]) for one in recordings]

    def _heard(self, one: Said) -> Heard:
        samples = self._decoder.audio(one.path) if one.path else self._spoken(one)
        if one.kind != CLEAN:
            random = seeded(one.name + one.kind)
            samples = corruptions.SOUNDS[one.kind](samples, random.uniform(), random)
        found = self._transcriber.transcribe(samples)
        return Heard(found.text, of_speech(samples, found.text, found.confidence))

    def _spoken(self, one: Said) -> Samples:
        with tempfile.TemporaryDirectory() as folder:
            out = str(Path(folder) / "said.wav")
            command = [word.format(out=out, text=one.text) for word in VOICES[one.voice]]
            subprocess.run(command, check=True, capture_output=True)
            return self._decoder.audio(out)


def _key(one: Said) -> str:
    return f"{one.name}|{one.kind}"


def _known(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    return dict(json.loads(line) for line in path.read_text("utf-8").splitlines())


def spoken(
    name: str,
    asked: Sequence[tuple[Wanted, Said]],
    shots: Mapping[str, Sequence[tuple[Shot, Part]]],
    sounds: Sequence[str],
    gallery: Sequence[Floats],
    eyes: CachedImages,
    ears: CachedSpeech,
) -> Composed:
    """Queries of a picture and speech, one of them made worse; a recording in which nothing is heard gives none."""
    rows = [row for one, said in asked for row in _rows(one, said, shots[one.key], sounds)]
    heard = ears.listen([said for *_, said in rows], name.replace("/", "-"))
    kept = [at for at, one in enumerate(heard) if one.text.strip()]
    vectors = eyes.read([heard[at].text for at in kept], name.replace("/", "-"))
    parts = [
        {"audio": Part(vector, heard[at].signs), "image": rows[at][1]}
        for at, vector in zip(kept, vectors, strict=True)
    ]
    about = [(rows[at][0], rows[at][2], rows[at][3]) for at in kept]
    return assembled(name, parts, about, gallery, [heard[at].text for at in kept])


def _rows(
    one: Wanted, said: Said, shots: Sequence[tuple[Shot, Part]], sounds: Sequence[str]
) -> list[tuple[Wanted, Part, str, str, Said]]:
    clean = shots[0][1]
    return [
        (one, clean, CLEAN, CLEAN, said),
        *((one, clean, "audio", kind, replace(said, kind=kind)) for kind in sounds),
        *((one, picture, "image", shot.kind, said) for shot, picture in shots[1:]),
    ]
