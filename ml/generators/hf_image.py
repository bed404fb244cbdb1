"""Pictures by a text-to-image pipeline of diffusers: ``hf-image:/models/sd`` or ``hf-image:organisation/model``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

from ml.generators._pretrained import Counting, Pretrained, alike, called, cropped, levels, loaded, padded
from ml.generators.base import GenerationError, GenerationParams, Kind, Limits, RawOutput, Watch


class HfImage(Pretrained):
    kind: Kind = "image"
    limits = Limits(max_side=2048, max_steps=150, max_batch=4)

    @cached_property
    def pipeline(self) -> Any:
        import diffusers

        return loaded(self._path, diffusers.AutoPipelineForText2Image.from_pretrained, self.folder())

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        groups = list(alike(batch))
        counting = Counting(watch, sum(group[0].steps for group in groups))
        return [raw for group in groups for raw in self._group(group, counting)]

    def _group(self, batch: Sequence[GenerationParams], counting: Counting) -> list[RawOutput]:
        params = batch[0]
        size = {"width": padded(params.width), "height": padded(params.height)}
        output = called(self.pipeline, batch, counting, output_type="np", **size)
        if any(getattr(output, "nsfw_content_detected", None) or ()):
            raise GenerationError("failed", "The model's own safety checker refused what it had drawn.")
        return [RawOutput(pixels=cropped(levels(picture), params)) for picture in output.images]


# One request after the other: the weights stay in memory between them.
@lru_cache(maxsize=1)
def load(argument: str) -> HfImage:
    return HfImage("hf-image", argument)
