"""The wrapper around every generator: what it makes is marked, signed and read back, or it does not leave.

Where they are wanted, the icon and the notice for people come first. Marks go into pixels, frames and samples, then the
file is encoded and signed, then decoded again: both marks must be found in the bytes that are released, by the same
readers that an audit uses. Where the invisible mark is not found it is tried again with more room for it; after
``ATTEMPTS`` the answer is ``not-marked``. None of these can be switched off, and previews are marked, too.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import tempfile
import time
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ml.generators.base import (
    MAX_PROMPT,
    MIN_SIDE,
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
from ml.sandbox import without_realtime

# --- File formats ----------------------------------------------------------------------------------------
# Files of what was drawn, and what is in such files: PNG, WAV, and AV1 with Opus in MP4.
#
# Only for files that were made here a moment ago; files of unknown origin go through ``ml.media``.


#: libopus works at this rate only.
OPUS_RATE = 48_000
#: SVT-AV1's speed, 0 to 13; it warns of artefacts from 10 on.
PRESET = "9"


def png(pixels: Pixels) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG", compress_level=4)
    return target.getvalue()


def read_png(content: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def wav(sound: Sound) -> bytes:
    """16-bit stereo."""
    target = io.BytesIO()
    with wave.open(target, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(sound.rate)
        file.writeframes(np.rint(np.clip(sound.samples, -1, 1) * 32767).astype("<i2").tobytes())
    return target.getvalue()


def read_wav(content: bytes) -> Sound:
    with wave.open(io.BytesIO(content)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return Sound(samples.astype(np.float32) / np.float32(32767), file.getframerate())


def mp4(
    frames: Sequence[Pixels],
    fps: int,
    *,
    count: int = 0,
    sound: Sound | None = None,
    crf: int = 30,
    sound_bits: int = 160_000,
) -> bytes:
    """AV1 in MP4 whose index stands in front, so that it plays while it loads. Sides are made even.

    ``count``: frames in all, over and over where that is more than there are; 0: each once.
    ``crf``: SVT-AV1's quality, 0 (best) to 63. ``sound_bits``: of Opus, a second.
    """
    import av

    # The encoder writes its settings to standard error otherwise.
    os.environ.setdefault("SVT_LOG", "1")
    # The index moves to the front by reading the file again, which only files allow.
    with tempfile.TemporaryDirectory() as folder, without_realtime():
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            video = _video_stream(container, frames[0], fps, crf)
            audio = _sound_stream(container, sound_bits) if sound is not None else None
            for at, frame in enumerate(islice(cycle(frames), count or len(frames))):
                container.mux(video.encode(_video_frame(frame, at, fps)))
            container.mux(video.encode(None))
            if sound is not None and audio is not None:
                for piece in _sound_frames(sound):
                    container.mux(audio.encode(piece))
                container.mux(audio.encode(None))
        return path.read_bytes()


def read_mp4(content: bytes, most: int = 6) -> tuple[list[Pixels], Sound | None, float]:
    """``most`` frames over the whole length, the sound (at 48 kHz), and how many seconds it lasts."""
    import av

    container: Any
    with av.open(io.BytesIO(content)) as container:
        video = container.streams.video[0]
        total = video.frames or 1
        wanted = {round(at) for at in np.linspace(0, total - 1, min(most, total))}
        frames = [
            frame.to_ndarray(format="rgb24")
            for at, frame in enumerate(container.decode(video))
            if at in wanted
        ]
        seconds = float(total / (video.average_rate or 1))
    return frames, _read_sound(content), seconds


def _video_stream(container: Any, frame: Pixels, fps: int, crf: int) -> Any:
    height, width = frame.shape[:2]
    stream = container.add_stream("libsvtav1", rate=fps)
    stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
    # Its filter over time takes the invisible mark for noise.
    stream.options = {"preset": PRESET, "crf": str(crf), "svtav1-params": "lp=2:enable-tf=0"}
    context = stream.codec_context
    # BT.709, limited range: said in the file, so that every player turns it back into the same colours.
    context.colorspace = context.color_primaries = context.color_trc = 1
    context.color_range = 1
    return stream


def _video_frame(pixels: Pixels, at: int, fps: int) -> Any:
    import av

    height, width = (side // 2 * 2 for side in pixels.shape[:2])
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels[:height, :width]), format="rgb24")
    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
    frame.pts, frame.time_base = at, Fraction(1, fps)
    return frame


def _sound_stream(container: Any, bits: int) -> Any:
    stream = container.add_stream("libopus", rate=OPUS_RATE, layout="stereo")
    stream.bit_rate = bits
    return stream


def _sound_frames(sound: Sound) -> Iterable[Any]:
    import av

    packed = np.ascontiguousarray(sound.samples, np.float32).reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = sound.rate, 0, Fraction(1, sound.rate)
    resampler = av.AudioResampler("flt", "stereo", OPUS_RATE, frame_size=OPUS_RATE // 50)
    yield from resampler.resample(frame)
    yield from resampler.resample(None)


def _read_sound(content: bytes) -> Sound | None:
    import av

    container: Any
    with av.open(io.BytesIO(content)) as container:
        if not container.streams.audio:
            return None
        planes = [frame.to_ndarray() for frame in container.decode(audio=0)]
        rate = container.streams.audio[0].rate or OPUS_RATE
    return Sound(np.ascontiguousarray(np.concatenate(planes, axis=1).T, np.float32), int(rate))


# --- Helpers ---------------------------------------------------------------------------------------------
# What the wrapper needs beside the marks: reading credentials back, room for a mark, previews, lack of memory.


PREVIEW_SIDE, PREVIEW_SECONDS = 192, 0.8


def read_credentials(content: bytes, media_type: str, marker: Marker) -> dict[str, Any]:
    """What the audit's detector ``c2pa`` says of these bytes, with the marker's root as the installation's own."""
    from ml.detectors.base import Item, load_detector

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "made"
        path.write_bytes(content)
        kind: Any = media_type.partition("/")[0]
        options = {"own_anchors": marker.keys.root, "time_stamp_anchors": marker.time_stamp_roots}
        item = Item(kind, media_type, path=path, options=options)
        found: dict[str, Any] = dict(load_detector("c2pa").examine(item).fields.get("c2pa", {}))
    return found


def out_of_memory(error: BaseException) -> bool:
    """Whether it says so: Python's, torch's on a GPU, or torch's allocator of the processor."""
    words = str(error)
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return (
        named or "out of memory" in words or "not enough memory" in words or "can't allocate memory" in words
    )


def reduced_contrast(pixels: Pixels, room: float) -> Pixels:
    """With its contrast reduced to ``room`` around middle grey."""
    if room >= 1:
        return pixels
    return np.clip(np.rint((pixels.astype(np.float32) - 127.5) * room + 127.5), 0, 255).astype(np.uint8)


class MarkedProgress:
    """A watch that counts over ``batches``, and lets previews through small, marked, and not too often."""

    def __init__(self, watch: Watch, marker: Marker, batches: int) -> None:
        self._watch, self._marker, self._batches = watch, marker, batches
        self.batch = 0
        #: What it raised, which is no fault of the generator that it interrupts.
        self.raised: Exception | None = None
        self._last, self._step = 0.0, Step(0, 1)

    def __call__(self, step: Step) -> None:
        done = self.batch * step.total + min(step.done, step.total)
        self._step = Step(done, step.total * self._batches)
        self._tell(replace(self._step, preview=self._preview(step.preview)))

    def alive(self) -> None:
        """The last step once more: a chance to cancel."""
        self._tell(self._step)

    def _tell(self, step: Step) -> None:
        try:
            self._watch(step)
        except Exception as error:
            self.raised = error
            raise

    def _preview(self, pixels: Pixels | None) -> Pixels | None:
        now = time.monotonic()
        if pixels is None or now - self._last < PREVIEW_SECONDS:
            return None
        self._last = now
        height, width = pixels.shape[:2]
        scale = PREVIEW_SIDE / max(height, width)
        size = (max(watermark.MIN_SIDE, round(width * scale)), max(watermark.MIN_SIDE, round(height * scale)))
        small = np.asarray(Image.fromarray(pixels).resize(size))
        return watermark.embed(small, self._marker.payload, self._marker.watermark_key)


# --- Requests --------------------------------------------------------------------------------------------
# Which requests can be met: everything is checked before anything is loaded.


#: Generators of random numbers take 63 bits and no sign.
MAX_SEED = (1 << 63) - 1
MAX_GUIDANCE = 30.0
#: Shorter sound cannot carry the mark.
MIN_SECONDS = 2.0


def checked(params: GenerationParams, kind: Kind, limits: Limits) -> GenerationParams:
    """The parameters with their texts cleaned. Raises GenerationError: ``unreadable`` or ``too-large``."""
    prompt, negative = _text(params.prompt, "prompt"), _text(params.negative, "negative prompt")
    if not prompt:
        raise GenerationError("unreadable", "The prompt is empty: say what is wanted.")
    _within(params.steps, 1, limits.max_steps, "steps")
    _within(params.guidance, 0, MAX_GUIDANCE, "guidance")
    _within(params.seed, 0, MAX_SEED, "seed")
    if kind != "audio":
        _within(params.width, MIN_SIDE, limits.max_side, "width")
        _within(params.height, MIN_SIDE, limits.max_side, "height")
    if kind != "image":
        _within(params.seconds, MIN_SECONDS, limits.max_seconds, "seconds")
    return replace(params, prompt=prompt, negative=negative)


def _text(text: str, name: str) -> str:
    """Without what cannot be shown; unpaired surrogates cannot even be hashed."""
    if len(text) > MAX_PROMPT:
        raise GenerationError(
            "too-large", f"The {name} has {len(text):,} characters; at most {MAX_PROMPT:,} are taken."
        )
    cleaned = text.encode("utf-8", "ignore").decode().replace("\x00", " ")
    return " ".join(cleaned.split())


def _within(value: float, least: float, most: float, name: str) -> None:
    if not math.isfinite(value) or value < least:
        raise GenerationError("unreadable", f"{name} is {value}; it must be at least {least}.")
    if value > most:
        raise GenerationError("too-large", f"{name} is {value}; here at most {most:g} can be made.")


# --- Marked results --------------------------------------------------------------------------------------


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


#: In the details of a manifest: a time stamp was asked for, and could not be had.
UNAVAILABLE = "unavailable"


def no_watch(step: Step) -> None:
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

    def make(self, wanted: Sequence[GenerationParams], watch: Watch = no_watch) -> list[MarkedOutput]:
        """A released file for each of `wanted`, in order; all of them or none.

        Raises GenerationError, and lets through what ``watch`` raises (``Cancelled``).
        """
        wanted = [checked(params, self.kind, self.limits) for params in wanted]
        if lacking := self.missing():
            raise GenerationError("not-installed", lacking)
        made: list[MarkedOutput] = []
        batches = list(batched(wanted, self.limits.max_batch))
        marked = MarkedProgress(watch, self._marker, len(batches))
        for marked.batch, batch in enumerate(batches):
            raws = self._drawn(batch, marked)
            made += [
                self._released(params, raw, marked.alive) for params, raw in zip(batch, raws, strict=True)
            ]
        return made

    def _drawn(self, wanted: Sequence[GenerationParams], watch: MarkedProgress) -> list[RawOutput]:
        try:
            raws = self._generator.draw(wanted, watch)
            if len(raws) != len(wanted):
                raise ValueError(f"{len(raws)} results for {len(wanted)} wanted")
            return raws
        except (Cancelled, GenerationError):
            raise
        except Exception as error:
            if watch.raised is not None:
                # As it was raised: a database that is away passes, and another try may fare better.
                raise watch.raised from None
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
        drawn = reduced_contrast(required(raw.pixels), attempt.room)
        content = self._signed(params, raw, png(self._watermarked(self._with_icon(drawn))))
        pixels = read_png(content)
        if not (seen := self._seen([pixels])):
            return None
        scene = self._watermarked(drawn) if self._marker.icon is not None else None
        return self._made(params, raw, content, {"watermark": seen}, pixels=pixels, scene=scene)

    def _clip(self, params: GenerationParams, raw: RawOutput, attempt: Attempt) -> MarkedOutput | None:
        frames = [
            self._watermarked(self._with_icon(reduced_contrast(frame, attempt.room)), attempt.gain)
            for frame in required(raw.frames)
        ]
        # Music that it was given was released already, with its notice.
        begins = raw.sound is None or params.sound is not None
        sound = raw.sound if begins else self._with_notice(required(raw.sound))
        sound = self._sounding(sound) if sound is not None else None
        film = mp4(
            frames, raw.fps, count=raw.count, sound=sound, crf=attempt.crf, sound_bits=attempt.sound_bits
        )
        content = self._signed(params, raw, film)
        shown, heard, seconds = read_mp4(content, FRAMES_READ)
        marks = {"watermark": self._seen(shown, FRAMES_SEEN), "sound_watermark": self._heard(heard)}
        if not marks["watermark"] or (markable(sound) and not marks["sound_watermark"]):
            return None
        found = {name: mark for name, mark in marks.items() if mark}
        return self._made(
            params, raw, content, found, pixels=shown[len(shown) // 2], sound=heard, seconds=seconds
        )

    def _recording(self, params: GenerationParams, raw: RawOutput, attempt: Attempt) -> MarkedOutput | None:
        content = self._signed(params, raw, wav(self._sounding(self._with_notice(required(raw.sound)))))
        heard = read_wav(content)
        if not (mark := self._heard(heard)):
            return None
        return self._made(params, raw, content, {"sound_watermark": mark}, sound=heard, seconds=heard.seconds)

    # --- What people see and hear ---

    def _with_icon(self, pixels: Pixels) -> Pixels:
        return self._marker.icon.on(pixels) if self._marker.icon is not None else pixels

    def _with_notice(self, sound: Sound) -> Sound:
        notice = self._marker.notice
        return Sound(notice.before(sound.samples, sound.rate), sound.rate) if notice is not None else sound

    def _disclosed(self, pixels: Pixels | None, sound: Sound | None) -> dict[str, Any]:
        icon, notice = self._marker.icon, self._marker.notice
        found: dict[str, Any] = {}
        if icon is not None and pixels is not None:
            found["icon"] = {"text": icon.text, "corner": icon.corner}
        if notice is not None and sound is not None:
            found["notice"] = {"seconds": round(notice.seconds, 2)}
        return found

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

    def _said(self, params: GenerationParams, raw: RawOutput) -> dict[str, Any]:
        return {
            "made_by": self.model,
            "source_type": SOURCE_TYPES[self._how(raw)],
            "details": {
                "prompt_sha256": hashlib.sha256(params.prompt.encode()).hexdigest(),
                "seed": params.seed,
                "how": self._how(raw),
                **({"parts": [part.said for part in raw.parts]} if raw.parts else {}),
            },
        }

    def _signed(self, params: GenerationParams, raw: RawOutput, content: bytes) -> bytes:
        return signing.sign(self._marker.keys, content, MEDIA_TYPES[self.kind], **self._said(params, raw))

    def _made(
        self,
        params: GenerationParams,
        raw: RawOutput,
        content: bytes,
        marks: dict[str, Any],
        *,
        pixels: Pixels | None = None,
        sound: Sound | None = None,
        seconds: float = 0.0,
        scene: Pixels | None = None,
    ) -> MarkedOutput:
        height, width = pixels.shape[:2] if pixels is not None else (0, 0)
        said = self._said(params, raw)
        credentials = checked_credentials(self._marker, content, MEDIA_TYPES[self.kind], said)
        parts = {"parts": said["details"]["parts"]} if raw.parts else {}
        marks = {"c2pa": credentials, **marks, **self._disclosed(pixels, sound), **parts}
        return MarkedOutput(
            self.kind, MEDIA_TYPES[self.kind], content, self.model, self._how(raw),
            marks, width, height, round(seconds, 3), pixels, sound, scene, said,
        )  # fmt: skip


def checked_credentials(
    marker: Marker, content: bytes, media_type: str, said: Mapping[str, Any]
) -> dict[str, Any]:
    """The manifest as an audit reads it. Raises GenerationError where it is not ours."""
    found = read_credentials(content, media_type, marker)
    if not found.get("own") or said["source_type"] not in found.get("source_types", ()):
        raise GenerationError(
            "not-marked", "The content credentials could not be read back, so it is not released."
        )
    shown = {name: found[name] for name in ("state", "own", "signer", "time_stamp") if found.get(name)}
    return {**shown, "source_type": said["source_type"]}


def time_stamped(marker: Marker, made: MarkedOutput) -> MarkedOutput:
    """What is kept, signed anew with a time stamp if one is asked for; where none can be had, the manifest says so."""
    if marker.time_stamp is None:
        return made
    found: dict[str, Any] = {}
    try:
        content = signing.sign(
            marker.keys, made.content, made.media_type, time_stamp=marker.time_stamp, **made.said
        )
        said = made.said
    except signing.NoTimeStamp as error:
        log.warning("a file was signed without a time stamp", extra={"why": str(error)})
        details = {**made.said["details"], "time_stamp": UNAVAILABLE}
        said = {**made.said, "details": details}
        content = signing.sign(marker.keys, made.content, made.media_type, **said)
        found = {"time_stamp": {"state": UNAVAILABLE, "why": str(error)[:300]}}
    credentials = {**checked_credentials(marker, content, made.media_type, said), **found}
    return replace(made, content=content, said=said, marks={**made.marks, "c2pa": credentials})


def batched(wanted: Sequence[GenerationParams], size: int) -> Iterator[Sequence[GenerationParams]]:
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]


def required(value: T | None) -> T:
    """What its kind promises is there. Raises GenerationError."""
    if value is None:
        raise GenerationError("failed", "The generator made something else than it should.")
    return value


def markable(sound: Sound | None) -> bool:
    """Whether it is long enough to carry the mark. A clip's sound track need not be, a recording must."""
    return sound is not None and sound.seconds >= sound_watermark.MIN_S
