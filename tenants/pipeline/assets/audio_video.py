"""Sound and film: what is said becomes a transcript and its passages, what is seen becomes moments.

Each vector carries its segment in seconds. Sounds without words need an acoustic encoder, which does not ship:
`details["examined"]` says so instead of finding nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any

from ml.listening import Hearing, Utterance, listen, passages_of
from ml.media import MediaError, MediaInfo
from ml.media.previews import Waveform, draw_waveform, thumbnail
from tenants.pipeline.assets.prepared import Prepared, Report, Source
from tenants.retrieval import query

# Moments of a film that have a vector, however long it is: of 576 numbers 3.5 MB.
MAX_MOMENTS = 1_500
MAX_PASSAGES = 2_000
SAMPLE_RATE = 16_000
REPORT_S = 1.0
POSTER_FRAMES = 10
# What a copy without metadata may be larger than its source: headers are written anew.
CLEAN_MARGIN = 16 << 20


def prepare_media(source: Source, prepared: Prepared, report: Report) -> None:
    """A recording or a film, whatever its first bytes looked like. Raises MediaError, and what `report` raises."""
    info = query.decoder().probe(source.file)
    prepared.media_type = info.media_type
    _remove_location(source, prepared, info)
    if info.has_picture:
        _film(source, prepared, info, report)
    elif info.has_sound:
        _recording(source, prepared, info, report)
    else:
        raise MediaError("unsupported", "this file has neither sound nor picture that can be read")


def _recording(source: Source, prepared: Prepared, info: MediaInfo, report: Report) -> None:
    ears = SpeechTrack(source, prepared, info, Progress(info.duration_s, report, 1))
    ears.listen()
    prepared.details = _details(info, ears, prepared)
    prepared.thumbnail = draw_waveform(prepared.details["peaks"])


def _film(source: Source, prepared: Prepared, info: MediaInfo, report: Report) -> None:
    prepared.width, prepared.height = info.width, info.height
    progress = Progress(info.duration_s, report, 1 + info.has_sound)
    ears = SpeechTrack(source, prepared, info, progress) if info.has_sound else None
    # Side by side: pictures are encoded on one core while another listens.
    with ThreadPoolExecutor(1) as pool:
        heard = pool.submit(copy_context().run, ears.listen_if_possible) if ears else None
        try:
            _encode_frames(source, prepared, info, progress)
            progress.wait_for(heard)
        except BaseException:
            progress.stopped = True
            raise
    prepared.details = _details(info, ears, prepared)


def _remove_location(source: Source, prepared: Prepared, info: MediaInfo) -> None:
    if not info.has_location:
        return
    assert source.folder is not None  # noqa: S101 - for the type checker
    target = source.folder / f"{source.file.name}.clean"
    limit = source.file.stat().st_size + CLEAN_MARGIN
    prepared.clean_type = query.decoder().clean(source.file, target, max_bytes=limit)
    prepared.clean = target


def prepare_moments(source: Source, prepared: Prepared, report: Report) -> None:
    """Only the moments of a film. Raises as `play`."""
    info = query.decoder().probe(source.file)
    if info.has_picture:
        _encode_frames(source, prepared, info, Progress(info.duration_s, report, 1))


def add_spoken(prepared: Prepared, spoken: Sequence[Utterance]) -> None:
    """A vector for each passage of what is said."""
    for passage in list(passages_of(spoken))[:MAX_PASSAGES]:
        encoded = query.share_text(passage.text, prepared.spaces)
        prepared.add("audio", encoded, _time_span(passage.start_s, passage.end_s))


class Progress:
    """Tells how far the slowest part has come, from the thread that made it and not too often."""

    def __init__(self, total_s: float, report: Report, parts: int) -> None:
        self.stopped = False
        self._total, self._report = total_s, report
        self._at, self._owner, self._told = [0.0] * parts, threading.get_ident(), time.monotonic()

    def reached(self, part: int, at_s: float) -> bool:
        """`part` counts from 0, or from the end. False when the other side has failed and going on is pointless."""
        self._at[part] = at_s
        if threading.get_ident() == self._owner:
            self._report_if_due()
        return not self.stopped

    def wait_for(self, other: Future[None] | None) -> None:
        while other is not None and not wait([other], timeout=REPORT_S).done:
            self._report_if_due()
        if other is not None:
            other.result()

    def _report_if_due(self) -> None:
        if time.monotonic() - self._told >= REPORT_S:
            self._told = time.monotonic()
            self._report(min(self._at), self._total)


def _encode_frames(source: Source, prepared: Prepared, info: MediaInfo, progress: Progress) -> None:
    """A vector for each picture that looks other than the one before, valid from where its moment begins until the
    next one does: several of a moment that moves."""
    shown: list[tuple[float, Any]] = []
    poster = PosterFrame()
    for frame in query.decoder().moments(source.file, max_moments=MAX_MOMENTS):
        prepared.spend(frame.cpu_s)
        prepared.truncated |= frame.truncated
        poster.offer(frame.pixels)
        if not frame.same or not shown:
            shown.append((frame.at_s, query.place_image(frame.pixels, prepared.spaces)))
        progress.reached(0, frame.at_s)
    begins = sorted({at_s for at_s, _ in shown})
    ends = dict(zip(begins, [*begins[1:], info.duration_s], strict=True))
    for at_s, encoded in shown:
        prepared.add("video", encoded, _time_span(at_s, max(at_s, ends[at_s])))
    prepared.thumbnail = thumbnail(poster.pixels)


class PosterFrame:
    """The frame with the most contrast among the first ones: films begin black."""

    def __init__(self) -> None:
        self.pixels: Any = None
        self._contrast, self._offered = -1.0, 0

    def offer(self, pixels: Any) -> None:
        self._offered += 1
        if self._offered <= POSTER_FRAMES and (contrast := float(pixels[::4, ::4].std())) > self._contrast:
            self.pixels, self._contrast = pixels, contrast


class SpeechTrack:
    """Listens to the sound of one file: transcript, passages as vectors, waveform."""

    def __init__(self, source: Source, prepared: Prepared, info: MediaInfo, progress: Progress) -> None:
        self._source, self._prepared, self._progress = source, prepared, progress
        self._waveform = Waveform(info.duration_s)
        self._decoding_s = 0.0
        self._hearing = Hearing()
        self.damage = ""

    def listen(self) -> None:
        start, cpu_start = time.perf_counter(), time.process_time()
        heard = listen(self._pieces(), query.transcriber(), self._hearing)
        try:
            self._prepared.transcript = list(heard)
        finally:
            # The model computes in threads of its own, whose processor time cannot be asked for: at most what the
            # whole process took, and at most the time that went by.
            listening_s = time.perf_counter() - start - self._decoding_s
            self._prepared.spend(max(0.0, min(listening_s, time.process_time() - cpu_start)))
        add_spoken(self._prepared, self._prepared.transcript)

    def listen_if_possible(self) -> None:
        """A film is worth keeping for its pictures, whatever its sound is like."""
        try:
            self.listen()
        except MediaError as error:
            self._prepared.spend(error.cpu_s)
            self.damage = error.message

    @property
    def words(self) -> str:
        """`found`, `none`, `unclear` (people speak, in a language not known or too badly recorded), or `damaged`."""
        if self.damage:
            return "damaged"
        if self._hearing.unclear:
            return "unclear"
        return "found" if self._prepared.transcript else "none"

    @property
    def languages(self) -> list[str]:
        """Spoken in it, the longest first."""
        return self._hearing.languages

    def peaks(self) -> list[int]:
        return self._waveform.peaks()

    def _pieces(self) -> Iterator[tuple[float, Any]]:
        asked = time.perf_counter()
        for sound in query.decoder().sound(self._source.file):
            self._decoding_s += time.perf_counter() - asked
            self._prepared.spend(sound.cpu_s)
            self._prepared.truncated |= sound.truncated
            self._waveform.add(sound.start_s, sound.samples)
            yield sound.start_s, sound.samples
            if not self._progress.reached(-1, sound.start_s + len(sound.samples) / SAMPLE_RATE):
                return
            asked = time.perf_counter()


def _time_span(start_s: float, end_s: float) -> dict[str, float]:
    return {"start_s": round(start_s, 2), "end_s": round(end_s, 2)}


def _details(info: MediaInfo, ears: SpeechTrack | None, prepared: Prepared) -> dict[str, Any]:
    details: dict[str, Any] = {
        "duration_s": round(info.duration_s, 3),
        "has_sound": info.has_sound,
        "has_picture": info.has_picture,
        "codecs": list(info.codecs),
        "peaks": ears.peaks() if ears else [],
        "languages": ears.languages if ears else [],
        "truncated": info.truncated or prepared.truncated,
        "examined": {},
    }
    if ears:
        details["examined"] = {"words": ears.words, "sounds": "not_examined"}
    return details
