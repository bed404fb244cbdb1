"""Where people speak in a recording: Silero VAD (MIT), the network that faster-whisper brings along.

The network sees a minute at a time; speech that still goes on at its end is carried over to the next. Memory is
bounded by that minute and one stretch, whatever the length of the recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ml.encoders.base import Samples, SpeechToText

RATE = SpeechToText.sample_rate

#: How much sound is searched at once.
WINDOW_S = 60.0
#: No stretch is longer: speech without a pause is cut at its longest silence before this.
MAX_STRETCH_S = 28.0
#: A silence of this length ends a stretch; shorter ones stay in it, so that pauses are heard as pauses.
SILENCE_S = 0.5
#: Kept on both sides of a stretch: the first and last sounds of speech are soft.
PAD_S = 0.25
#: A piece that starts this far from the end of the one before leaves a hole, over which nothing is joined.
HOLE_S = 0.1


@dataclass(frozen=True)
class Stretch:
    """Speech without a long silence: its start in the recording, in seconds, and its samples."""

    start_s: float
    samples: Samples

    @property
    def duration_s(self) -> float:
        return len(self.samples) / RATE


def stretches(pieces: Iterable[tuple[float, Samples]]) -> Iterator[Stretch]:
    """The speech in consecutive float32 [n] mono 16 kHz pieces of any length, each with its start in seconds.

    Raises ValueError for pieces of another shape.
    """
    unread = _Unread()
    for start_s, samples in _cut(pieces):
        if abs(start_s - unread.end_s) > HOLE_S:
            yield from unread.take(final=True)
            unread = _Unread(start_s)
        unread.parts.append(samples)
        if unread.end_s - unread.start_s >= WINDOW_S:
            yield from unread.take(final=False)
    yield from unread.take(final=True)


class _Unread:
    """Sound that has come and was not searched, or whose last stretch may go on."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.start_s = start_s
        self.parts: list[Samples] = []

    @property
    def end_s(self) -> float:
        return self.start_s + sum(map(len, self.parts)) / RATE

    def take(self, *, final: bool) -> Iterator[Stretch]:
        """The stretches that have ended; all of them when nothing follows."""
        if not self.parts:
            return
        sound = np.concatenate(self.parts)
        # Where nobody speaks at the end, keep what may be the soft beginning of a word.
        keep_from = max(0, len(sound) - round(PAD_S * RATE))
        for begin, end in _find(sound):
            if end >= len(sound) and not final:
                keep_from = begin
                break
            keep_from = max(keep_from, end)
            yield Stretch(self.start_s + begin / RATE, sound[begin:end].copy())
        self.start_s, self.parts = self.start_s + keep_from / RATE, [sound[keep_from:].copy()]


def _find(sound: Samples) -> list[tuple[int, int]]:
    """First and one past the last sample of each stretch."""
    # Imported here: whoever only needs the names of this module need not load the network's runtime.
    from faster_whisper.vad import VadOptions, get_speech_timestamps

    options = VadOptions(
        min_silence_duration_ms=round(1000 * SILENCE_S),
        speech_pad_ms=round(1000 * PAD_S),
        max_speech_duration_s=MAX_STRETCH_S,
    )
    return [(int(span["start"]), int(span["end"])) for span in get_speech_timestamps(sound, options)]


def _cut(pieces: Iterable[tuple[float, Samples]]) -> Iterator[tuple[float, Samples]]:
    """The same sound in checked pieces of at most a window."""
    step = round(WINDOW_S * RATE)
    for start_s, samples in pieces:
        if samples.ndim != 1:
            raise ValueError(f"samples are float32 [n], not {list(samples.shape)}")
        for at in range(0, len(samples), step):
            piece = np.asarray(samples[at : at + step], np.float32)
            yield start_s + at / RATE, np.nan_to_num(piece, posinf=0, neginf=0)
