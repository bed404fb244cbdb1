"""Music composed by rules from the mood of the prompt (``ml.composing``): no model makes any of it."""

from __future__ import annotations

from collections.abc import Sequence

from ml.composing.moods import mood_of
from ml.composing.render import RATE, render
from ml.composing.score import compose
from ml.generators.base import GenerationParams, Generator, Kind, Limits, RawOutput, Sound, Step, Watch


class RulesMusic(Generator):
    name = "rules-music"
    kind: Kind = "audio"
    model = "Crosslight composing rules 1"
    how = "rules"
    limits = Limits(max_seconds=30.0, max_batch=4)

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        raws: list[RawOutput] = []
        for at, params in enumerate(batch):
            watch(Step(2 * at, 2 * len(batch)))
            score = compose(
                params.mood or mood_of(params.prompt, seed=params.seed), params.seconds, params.seed
            )
            watch(Step(2 * at + 1, 2 * len(batch)))
            raws.append(RawOutput(sound=Sound(render(score), RATE)))
        watch(Step(2 * len(batch), 2 * len(batch)))
        return raws


def load(argument: str) -> RulesMusic:
    return RulesMusic()
