"""Clips by a text-to-video pipeline of diffusers: ``hf-video:/models/t2v`` or ``hf-video:organisation/model``.

They share prompt and seed with the picture of their request, but do not start from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from ml.generators._pretrained import Counting, Pretrained, alike, called, cropped, levels, padded
from ml.generators.base import GenerationParams, Kind, Limits, RawOutput, Sound, Watch

#: What text-to-video models are commonly trained at.
FPS = 8
FADE_S = 0.5


class HfVideo(Pretrained):
    kind: Kind = "video"
    limits = Limits(max_side=1280, max_steps=150, max_seconds=4.0, max_batch=1)

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        groups = list(alike(batch))
        counting = Counting(watch, sum(group[0].steps for group in groups))
        return [raw for group in groups for raw in self._group(group, counting)]

    def _group(self, batch: Sequence[GenerationParams], counting: Counting) -> list[RawOutput]:
        params = batch[0]
        size = {"width": padded(params.width), "height": padded(params.height)}
        count = max(2, round(params.seconds * FPS))
        output = called(self.pipeline, batch, counting, num_frames=count, output_type="np", **size)
        return [
            RawOutput(
                frames=cropped(levels(frames), params), fps=FPS, sound=cut(one.sound, len(frames) / FPS)
            )
            for one, frames in zip(batch, output.frames, strict=True)
        ]


# One request after the other: the weights stay in memory between them.
@lru_cache(maxsize=1)
def load(argument: str) -> HfVideo:
    return HfVideo("hf-video", argument)


def cut(sound: Sound | None, seconds: float) -> Sound | None:
    """Its beginning, faded out at the end."""
    if sound is None or sound.seconds <= seconds:
        return sound
    import numpy as np

    samples = sound.samples[: round(seconds * sound.rate)].copy()
    fade = min(len(samples), round(FADE_S * sound.rate))
    samples[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)[:, None]
    return replace(sound, samples=samples)
