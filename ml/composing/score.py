"""A short piece for a mood: chords that lead somewhere and come home, a bass, an accompaniment, a tune, percussion.

The rules are those of any book on harmony: progressions of usual kinds, each chord voiced so that its notes move as
little as they can, dominant and tonic at the end; a tune of one motif that comes back, chord notes on strong beats,
steps between them, the tonic last.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from ml.composing.moods import SCALES, Mood

BEATS = 4
#: Seconds that are left for the last chord to ring.
RING_S = 1.5
MAX_S = 600.0
#: Degrees of the scale, from 0; the last two of a piece are its cadence.
PROGRESSIONS: Mapping[str, Sequence[Sequence[int]]] = {
    "major": ((0, 5, 3, 4), (0, 4, 5, 3), (0, 3, 0, 4), (0, 2, 3, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 6, 2), (0, 6, 5, 4), (0, 5, 3, 4)),
    "dorian": ((0, 3, 0, 6), (0, 6, 3, 0), (0, 2, 3, 6)),
    "lydian": ((0, 1, 0, 4), (0, 4, 1, 5), (0, 1, 5, 4)),
}
CADENCES: Mapping[str, tuple[int, int]] = {
    "major": (4, 0),
    "minor": (4, 0),
    "dorian": (6, 0),
    "lydian": (1, 0),
}
#: Lengths in beats that fill two bars: for little, some and much energy.
RHYTHMS: Sequence[Sequence[Sequence[float]]] = (
    ((2, 2, 3, 1), (3, 1, 4), (2, 1, 1, 4), (4, 2, 2)),
    ((1, 1, 2, 1.5, 0.5, 2), (1.5, 0.5, 1, 1, 2, 2), (1, 1, 1, 1, 3, 1), (2, 1, 1, 1, 1, 2)),
    (
        (0.5, 0.5, 1, 0.5, 0.5, 1, 1, 1, 2),
        (1, 0.5, 0.5, 1, 1, 0.5, 0.5, 1, 2),
        (0.75, 0.75, 0.5, 1, 1, 1.5, 0.5, 2),
    ),
)
KICK, SNARE, HAT, OPEN_HAT, CRASH, TAMBOURINE = 36, 38, 42, 46, 49, 54
TUNE = (64, 84)
VOICES = (52, 71)


@dataclass(frozen=True)
class Note:
    """``instrument``: a name in the bank. ``pitch``: MIDI. ``loud``: 0 to 1. ``pan``: -1 left to 1 right."""

    start_s: float
    length_s: float
    pitch: int
    loud: float
    instrument: str
    pan: float = 0.0


@dataclass
class Score:
    seconds: float
    notes: list[Note] = field(default_factory=list)


def compose(mood: Mood, seconds: float, seed: int = 0) -> Score:
    """Exactly ``seconds`` long; the same for the same mood and seed. Raises ValueError beyond half a second to ten
    minutes."""
    if not 0.5 <= seconds <= MAX_S:
        raise ValueError(f"Music lasts from half a second to {MAX_S:g} seconds.")
    chance = random.Random(f"piece {seed}")  # noqa: S311 - repeatable on purpose
    return _Piece(mood, seconds, chance).score()


class _Piece:
    def __init__(self, mood: Mood, seconds: float, chance: random.Random) -> None:
        self.mood, self.chance = mood, chance
        ring = min(RING_S, seconds / 4)
        self.bars = max(1, round((seconds - ring) * mood.tempo / 60 / BEATS))
        # The tempo gives way a little, so that the piece ends with a whole bar.
        self.beat = (seconds - ring) / self.bars / BEATS
        self.result = Score(seconds)
        self.harmony_mode = "major" if mood.mode == "pentatonic" else mood.mode

    def score(self) -> Score:
        degrees = self._degrees()
        voicings = list(self._voicings(degrees))
        self._accompaniment(voicings)
        self._bass(degrees)
        self._tune(voicings)
        self._percussion()
        self._end(voicings[-1])
        return self.result

    def _add(
        self, beat: float, length: float, pitch: int, loud: float, role: int | str, pan: float = 0.0
    ) -> None:
        instrument = self.mood.instruments[role] if isinstance(role, int) else role
        # Nobody plays exactly: some milliseconds and shades.
        start = max(0.0, beat * self.beat + self.chance.gauss(0, 0.004))
        loud = min(1.0, max(0.05, loud * self.chance.uniform(0.9, 1.08)))
        if start < self.result.seconds:
            self.result.notes.append(Note(start, length * self.beat, pitch, loud, instrument, pan))

    # --- Harmony ---

    def _degrees(self) -> list[int]:
        pattern = self.chance.choice(PROGRESSIONS[self.harmony_mode])
        degrees = [pattern[bar % len(pattern)] for bar in range(self.bars)]
        degrees[-2:] = CADENCES[self.harmony_mode][-min(2, self.bars) :]
        return degrees

    def _chord(self, degree: int) -> tuple[int, ...]:
        """Pitch classes of the triad; the dominant of a minor key has its leading note."""
        scale = SCALES[self.harmony_mode]
        notes = [scale[(degree + third) % 7] for third in (0, 2, 4)]
        if self.harmony_mode == "minor" and degree == 4:
            notes[1] += 1
        return tuple((self.mood.tonic + note) % 12 for note in notes)

    def _voicings(self, degrees: Sequence[int]) -> Iterator[tuple[int, ...]]:
        """Three pitches each, as near to those before as they can be."""
        last: tuple[int, ...] = (55, 60, 64)
        for degree in degrees:
            places = [
                range(VOICES[0] + (note - VOICES[0]) % 12, VOICES[1], 12) for note in self._chord(degree)
            ]
            ways = [tuple(sorted(way)) for way in product(*places)]
            close = [way for way in ways if way[-1] - way[0] <= 14] or ways
            last = min(close, key=lambda way: sum(abs(a - b) for a, b in zip(way, last, strict=True)))
            yield last

    def _accompaniment(self, voicings: Sequence[tuple[int, ...]]) -> None:
        energy = self.mood.energy
        for bar, chord in enumerate(voicings):
            at = bar * BEATS
            if energy < 0.3 or self.mood.instruments[1] in ("pad", "choir", "strings"):
                for pitch in chord:
                    self._add(at, BEATS, pitch, 0.38, 1, -0.3)
            elif energy < 0.6:
                for eighth, voice in enumerate((0, 1, 2, 1, 0, 1, 2, 1)):
                    self._add(at + eighth / 2, 1, chord[voice], 0.4 if eighth % 4 else 0.48, 1, -0.3)
            else:
                for off in (0.5, 1.5, 2.5, 3.5):
                    for pitch in chord:
                        self._add(at + off, 0.4, pitch, 0.36, 1, -0.3)

    def _bass(self, degrees: Sequence[int]) -> None:
        for bar, degree in enumerate(degrees):
            root, _, fifth = (36 + (note - 36) % 12 for note in self._chord(degree))
            at = bar * BEATS
            if self.mood.energy < 0.3:
                self._add(at, BEATS, root, 0.55, 2)
            elif self.mood.energy < 0.7:
                self._add(at, 2, root, 0.6, 2)
                self._add(at + 2, 2, fifth, 0.5, 2)
            else:
                for half, pitch in enumerate((root, root, fifth, root, root, fifth, root + 12, fifth)):
                    self._add(at + half / 2, 0.45, pitch, 0.62 if half % 2 == 0 else 0.48, 2)

    # --- The tune ---

    def _tune(self, voicings: Sequence[tuple[int, ...]]) -> None:
        """Phrases of two bars: a motif, the same again, another, and the first once more."""
        level = min(2, int(self.mood.energy * 3.2))
        rhythms = [self.chance.choice(RHYTHMS[level]) for _ in range(2)]
        steps = [[self.chance.choice((-2, -1, -1, 1, 1, 2)) for _ in rhythm] for rhythm in rhythms]
        pitches = self._pitches()
        place = len(pitches) // 2
        for phrase in range(math.ceil(self.bars / 2)):
            which = 1 if phrase % 4 == 2 else 0
            beat = phrase * 2 * BEATS * 1.0
            for length, step in zip(rhythms[which], steps[which], strict=True):
                if beat >= (self.bars - 1) * BEATS and self.bars > 1:
                    return
                place = self._next(pitches, place, step, voicings[int(beat // BEATS)], beat)
                loud = 0.72 if beat % 2 == 0 else 0.6
                if self.chance.random() < 0.94:
                    self._add(beat, length * 0.95, pitches[place], loud, 0, 0.2)
                beat += length
                if beat >= self.bars * BEATS:
                    return

    def _pitches(self) -> list[int]:
        return [pitch for pitch in range(*TUNE) if (pitch - self.mood.tonic) % 12 in self.mood.scale]

    def _next(self, pitches: Sequence[int], place: int, step: int, chord: Sequence[int], beat: float) -> int:
        if not 2 <= place + step < len(pitches) - 2:
            step = -step
        wanted = min(len(pitches) - 1, max(0, place + step))
        if beat % 2:
            return wanted
        classes = {pitch % 12 for pitch in chord}
        fitting = [at for at, pitch in enumerate(pitches) if pitch % 12 in classes] or [wanted]
        return min(fitting, key=lambda at: (abs(at - wanted), at))

    # --- Percussion, and the end ---

    def _percussion(self) -> None:
        energy = self.mood.energy
        if energy < 0.38:
            return
        for bar in range(self.bars):
            at = bar * BEATS
            if energy >= 0.75 and bar % 4 == 0:
                self._add(at, 1, CRASH, 0.35, "drums", 0.3)
            for beat in range(BEATS):
                self._add(at + beat, 0.5, HAT, 0.3, "drums", 0.25)
                if energy > 0.5:
                    self._add(at + beat + 0.5, 0.5, TAMBOURINE if energy > 0.8 else HAT, 0.2, "drums", 0.25)
            for kick in (0, 2) if energy < 0.8 else (0, 1.5, 2):
                self._add(at + kick, 0.5, KICK, 0.6, "drums")
            if energy > 0.5:
                for beat in (1, 3):
                    self._add(at + beat, 0.5, SNARE, 0.42, "drums", -0.05)

    def _end(self, chord: Sequence[int]) -> None:
        """The tonic rings out in every part."""
        beat, ring = self.bars * BEATS, RING_S / self.beat
        for pitch in chord:
            self._add(beat, ring, pitch, 0.4, 1, -0.3)
        self._add(beat, ring, 36 + (self.mood.tonic - 36) % 12, 0.55, 2)
        self._add(beat, ring, 72 + (self.mood.tonic - 72) % 12, 0.6, 0, 0.2)
        if self.mood.energy >= 0.75:
            self._add(beat, 1, KICK, 0.6, "drums")
            self._add(beat, 2, CRASH, 0.35, "drums", 0.3)
