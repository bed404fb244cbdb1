"""The wrapper around every generator: what it makes is marked, signed and read back, or it does not leave.

Marks go into pixels, frames and samples first, then the file is encoded and signed, then decoded again: both marks must
be found in the bytes that are released, by the same readers that an audit uses. Where the invisible mark is not found
it is tried again with more room for it; after ``ATTEMPTS`` the answer is ``not-marked``. Nothing here can be switched
off, and previews are marked, too.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ml.generators import _encoding
from ml.generators._marking import Marked, eased, out_of_memory, read_credentials
from ml.generators._validation import checked
from ml.generators.base import (
    Cancelled,
    GenerationError,
    GenerationParams,
    Generator,
    How,
    Kind,
    Limits,
    MarkedOutput,
    Marker,
    Pixels,
    RawOutput,
    Sound,
    Step,
    Watch,
)
from ml.provenance import signing, sound_watermark, watermark

T = TypeVar("T")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """One try to mark. ``room``: the contrast that is left to the picture, as a mark needs room at black and white.

    ``gain``: strength of the mark in frames (pictures find theirs by themselves); ``crf``: AV1's quality, less is
    better; ``sound_bits``: Opus' bits a second.
    """

    room: float
    gain: float
    crf: int
    sound_bits: int


ATTEMPTS = (Attempt(1.0, 2.0, 26, 160_000), Attempt(0.9, 3.0, 22, 256_000), Attempt(0.75, 5.0, 16, 256_000))
#: Of a clip's frames that are read back, so many must carry the mark.
FRAMES_READ, FRAMES_MARKED = 6, 5
#: …and so clearly, in deviations: an audit reads other frames than these, and smaller ones.
FRAMES_SEEN = 8.0
SOURCE_TYPES: dict[How, str] = {
    "model": "trainedAlgorithmicMedia",
    "rules": "algorithmicMedia",
    "layout": "compositeSynthetic",
}
MEDIA_TYPES: dict[Kind, str] = {"image": "image/png", "video": "video/mp4", "audio": "audio/wav"}


def nobody(step: Step) -> None:
    """A watch that looks away."""


class MarkedGenerator:
    """A generator whose results are marked. Not thread-safe: one request after the other."""

    def __init__(self, generator: Generator, marker: Marker) -> None:
        self._generator, self._marker = generator, marker
        self.name: str = generator.name
        self.kind: Kind = generator.kind
        self.limits: Limits = generator.limits

    @property
    def model(self) -> str:
        return self._generator.model

    def missing(self) -> str:
        """Empty if it can run here, else what is not there and what to do."""
        return self._generator.missing()

    def make(self, wanted: Sequence[GenerationParams], watch: Watch = nobody) -> list[MarkedOutput]:
        """A released file for each of `wanted`, in order; all of them or none.

        Raises GenerationError, and lets through what ``watch`` raises (``Cancelled``).
        """
        wanted = [checked(params, self.kind, self.limits) for params in wanted]
        if lacking := self.missing():
            raise GenerationError("not-installed", lacking)
        made: list[MarkedOutput] = []
        batches = list(batched(wanted, self.limits.max_batch))
        marked = Marked(watch, self._marker, len(batches))
        for marked.batch, batch in enumerate(batches):
            raws = self._drawn(batch, marked)
            made += [
                self._released(params, raw, marked.alive) for params, raw in zip(batch, raws, strict=True)
            ]
        return made

    def _drawn(self, wanted: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        try:
            raws = self._generator.draw(wanted, watch)
            if len(raws) != len(wanted):
                raise ValueError(f"{len(raws)} results for {len(wanted)} wanted")
            return raws
        except (Cancelled, GenerationError):
            raise
        except Exception as error:
            if out_of_memory(error):
                raise GenerationError(
                    "out-of-memory", "There is not enough memory: ask for a smaller or shorter one."
                ) from error
            log.exception("the generator %s failed", self.name)
            raise GenerationError(
                "failed", f"The generator {self.name} failed ({type(error).__name__})."
            ) from error

    # --- Birth ---

    def _released(self, params: GenerationParams, raw: RawOutput, alive: Callable[[], None]) -> MarkedOutput:
        release = {"image": self._picture, "video": self._clip, "audio": self._recording}[self.kind]
        for attempt in ATTEMPTS:
            alive()
            if (made := release(params, raw, attempt)) is not None:
                return made
        raise GenerationError(
            "not-marked",
            "The invisible mark could not be read back from what was made, so it is not released.",
        )

    def _picture(self, params: GenerationParams, raw: RawOutput, attempt: Attempt) -> MarkedOutput | None:
        marked = self._watermarked(eased(present(raw.pixels), attempt.room))
        content = self._signed(params, raw, _encoding.png(marked))
        pixels = _encoding.read_png(content)
        if not (seen := self._seen([pixels])):
            return None
        return self._made(raw, content, {"watermark": seen}, pixels=pixels)

    def _clip(self, params: GenerationParams, raw: RawOutput, attempt: Attempt) -> MarkedOutput | None:
        frames = [
            self._watermarked(eased(frame, attempt.room), attempt.gain) for frame in present(raw.frames)
        ]
        sound = self._sounding(raw.sound) if raw.sound is not None else None
        film = _encoding.mp4(
            frames, raw.fps, count=raw.count, sound=sound, crf=attempt.crf, sound_bits=attempt.sound_bits
        )
        content = self._signed(params, raw, film)
        shown, heard, seconds = _encoding.read_mp4(content, FRAMES_READ)
        marks = {"watermark": self._seen(shown, FRAMES_SEEN), "sound_watermark": self._heard(heard)}
        if not marks["watermark"] or (markable(sound) and not marks["sound_watermark"]):
            return None
        found = {name: mark for name, mark in marks.items() if mark}
        return self._made(raw, content, found, pixels=shown[len(shown) // 2], sound=heard, seconds=seconds)

    def _recording(self, params: GenerationParams, raw: RawOutput, attempt: Attempt) -> MarkedOutput | None:
        content = self._signed(params, raw, _encoding.wav(self._sounding(present(raw.sound))))
        heard = _encoding.read_wav(content)
        if not (mark := self._heard(heard)):
            return None
        return self._made(raw, content, {"sound_watermark": mark}, sound=heard, seconds=heard.seconds)

    # --- The invisible marks ---

    def _watermarked(self, pixels: Pixels, gain: float | None = None) -> Pixels:
        return watermark.embed(pixels, self._marker.payload, self._marker.watermark_key, gain=gain)

    def _seen(self, pictures: Sequence[Pixels], least: float = 0.0) -> dict[str, Any]:
        """What is read in them; empty where too few carry the mark."""
        found = [watermark.detect(pixels, self._marker.watermark_key) for pixels in pictures]
        payload = self._marker.payload
        good = [mark for mark in found if mark and mark.payload == payload and mark.seen >= least]
        if len(good) < min(FRAMES_MARKED, len(pictures)):
            return {}
        seen = min(mark.seen for mark in good)
        return {
            "payload": f"{self._marker.payload:08x}", "seen": seen, "read": len(pictures), "marked": len(good),
        }  # fmt: skip

    @property
    def _short_payload(self) -> int:
        return self._marker.payload & 0xFFFF

    def _sounding(self, sound: Sound) -> Sound:
        """With the mark; one that carries it already, as the music of a clip does, stays as it is."""
        if not markable(sound) or self._heard(sound):
            return sound
        samples = sound_watermark.embed(
            sound.samples, sound.rate, self._short_payload, self._marker.watermark_key
        )
        return Sound(samples, sound.rate)

    def _heard(self, sound: Sound | None) -> dict[str, Any]:
        """What is read in it; empty where it does not carry the mark."""
        if sound is None or not markable(sound):
            return {}
        mark = sound_watermark.detect(sound.samples, sound.rate, self._marker.watermark_key)
        if mark is None or mark.payload != self._short_payload:
            return {}
        return {"payload": f"{mark.payload:04x}", "seen": mark.seen}

    # --- The manifest ---

    def _how(self, raw: RawOutput) -> How:
        return raw.how or self._generator.how

    def _signed(self, params: GenerationParams, raw: RawOutput, content: bytes) -> bytes:
        return signing.sign(
            self._marker.keys,
            content,
            MEDIA_TYPES[self.kind],
            made_by=self.model,
            source_type=SOURCE_TYPES[self._how(raw)],
            details={
                "prompt_sha256": hashlib.sha256(params.prompt.encode()).hexdigest(),
                "seed": params.seed,
                "how": self._how(raw),
            },
        )

    def _credentials(self, content: bytes, raw: RawOutput) -> dict[str, Any]:
        """The manifest as an audit reads it. Raises GenerationError where it is not ours."""
        found = read_credentials(content, MEDIA_TYPES[self.kind], self._marker.keys.root)
        expected = SOURCE_TYPES[self._how(raw)]
        if not found.get("own") or expected not in found.get("source_types", ()):
            raise GenerationError(
                "not-marked", "The content credentials could not be read back, so it is not released."
            )
        shown = {name: found[name] for name in ("state", "own", "signer")}
        return {**shown, "source_type": expected}

    def _made(
        self,
        raw: RawOutput,
        content: bytes,
        marks: dict[str, Any],
        *,
        pixels: Pixels | None = None,
        sound: Sound | None = None,
        seconds: float = 0.0,
    ) -> MarkedOutput:
        height, width = pixels.shape[:2] if pixels is not None else (0, 0)
        marks = {"c2pa": self._credentials(content, raw), **marks}
        return MarkedOutput(
            self.kind, MEDIA_TYPES[self.kind], content, self.model, self._how(raw),
            marks, width, height, round(seconds, 3), pixels, sound,
        )  # fmt: skip


def batched(wanted: Sequence[GenerationParams], size: int) -> Iterator[Sequence[GenerationParams]]:
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def present(value: T | None) -> T:
    """What its kind promises is there. Raises GenerationError."""
    if value is None:
        raise GenerationError("failed", "The generator made something else than it should.")
    return value


def markable(sound: Sound | None) -> bool:
    """Whether it is long enough to carry the mark. A clip's sound track need not be, a recording must."""
    return sound is not None and sound.seconds >= sound_watermark.MIN_S
