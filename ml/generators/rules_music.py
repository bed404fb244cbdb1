"""Music composed by rules from the mood of the prompt (``ml.composing``): no model makes any of it."""

from __future__ import annotations

from collections.abc import Sequence

from ml.composing.moods import mood_of
from ml.composing.render import RATE, render
from ml.composing.score import compose
from ml.generators.base import Generator, Kind, Limits, Raw, Sound, Step, Watch, Wish


class RulesMusic(Generator):
    name = "rules-music"
    kind: Kind = "audio"
    model = "Crosslight composing rules 1"
    how = "rules"
    limits = Limits(max_seconds=30.0, max_batch=4)

    def draw(self, wishes: Sequence[Wish], watch: Watch) -> list[Raw]:
        raws: list[Raw] = []
        for at, wish in enumerate(wishes):
            watch(Step(2 * at, 2 * len(wishes)))
            score = compose(wish.mood or mood_of(wish.prompt, seed=wish.seed), wish.seconds, wish.seed)
            watch(Step(2 * at + 1, 2 * len(wishes)))
            raws.append(Raw(sound=Sound(render(score), RATE)))
        watch(Step(2 * len(wishes), 2 * len(wishes)))
        return raws


def load(argument: str) -> RulesMusic:
    return RulesMusic()
