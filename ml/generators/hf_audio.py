"""Music and sounds by a pretrained model: ``hf-audio:/models/musicgen`` or ``hf-audio:organisation/model``.

A folder with ``model_index.json`` is a text-to-audio pipeline of diffusers (AudioLDM, AudioLDM 2, Stable Audio); one
with ``config.json`` is MusicGen of transformers, which knows neither steps nor a negative prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ml.generators._marked import out_of_memory
from ml.generators._pretrained import Counting, Pretrained, alike, called, freed, quiet
from ml.generators.base import GenerationError, GenerationParams, Kind, Limits, RawOutput, Sound, Watch

#: Sound below this rate cannot carry the mark.
MIN_RATE = 16_000


class HfAudio(Pretrained):
    kind: Kind = "audio"
    limits = Limits(max_steps=300, max_seconds=30.0, max_batch=4)
    files = ("model_index.json", "config.json")

    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        if not (self.folder() / "model_index.json").is_file():
            return self._composed(batch, watch)
        groups = list(alike(batch))
        counting = Counting(watch, sum(group[0].steps for group in groups))
        return [RawOutput(sound=sound) for group in groups for sound in self._diffused(group, counting)]

    # --- diffusers ---

    def _diffused(self, batch: Sequence[GenerationParams], counting: Counting) -> list[Sound]:
        seconds = batch[0].seconds
        output = called(
            self.pipeline,
            batch,
            counting,
            audio_length_in_s=seconds,
            audio_end_in_s=seconds,
            output_type="np",
        )
        return [stereo(audio, self._rate, seconds) for audio in output.audios]

    @property
    def _rate(self) -> int:
        vocoder = getattr(self.pipeline, "vocoder", None)
        return int(vocoder.config.sampling_rate if vocoder is not None else self.pipeline.vae.sampling_rate)

    # --- MusicGen ---

    @cached_property
    def _musicgen(self) -> tuple[Any, Any]:
        """Tokenizer and model."""
        import torch
        import transformers

        where: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        folder = str(self.folder())
        quiet()
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **where)
            model = transformers.MusicgenForConditionalGeneration.from_pretrained(
                folder, use_safetensors=True, **where
            )
        except Exception as error:
            if out_of_memory(error):
                raise
            raise GenerationError(
                "unreadable", f"{self._path!r} cannot be loaded: {str(error)[:300]}"
            ) from error
        return tokenizer, model.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def _composed(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        _, model = self._musicgen
        rate = model.config.audio_encoder.frame_rate
        tokens = [max(2, round(params.seconds * rate)) for params in batch]
        counting = Counting(watch, sum(tokens))
        # One after the other: rows of one call would share their random numbers.
        return [
            RawOutput(sound=self._tune(params, count, counting))
            for params, count in zip(batch, tokens, strict=True)
        ]

    def _tune(self, params: GenerationParams, tokens: int, counting: Counting) -> Sound:
        import torch

        tokenizer, model = self._musicgen

        def stop(ids: Any, scores: Any, **more: Any) -> Any:
            counting.step()
            return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)

        asked = tokenizer([params.prompt], return_tensors="pt", truncation=True, max_length=256).to(
            model.device
        )
        with torch.inference_mode(), torch.random.fork_rng(), freed():
            torch.manual_seed(params.seed)
            # The delay pattern of the codebooks takes a few tokens more.
            made = model.generate(
                **asked,
                do_sample=True,
                guidance_scale=max(1.0, params.guidance),
                max_new_tokens=tokens + model.decoder.num_codebooks - 1,
                stopping_criteria=[stop],
            )
        return stereo(made[0].float().cpu(), model.config.audio_encoder.sampling_rate, params.seconds)


# One request after the other: the weights stay in memory between them.
@lru_cache(maxsize=1)
def load(argument: str) -> HfAudio:
    return HfAudio("hf-audio", argument)


def stereo(audio: Any, rate: int, seconds: float) -> Sound:
    """[n], [1, n] or [2, n] as sound of ``seconds`` at most, at a rate that carries the mark."""
    samples = np.nan_to_num(np.atleast_2d(np.asarray(audio, np.float32)))[:2].T
    samples = samples[: round(seconds * rate)]
    if rate < MIN_RATE:
        from scipy.signal import resample_poly

        samples, rate = resample_poly(samples, MIN_RATE, rate, axis=0), MIN_RATE
    both = np.repeat(samples, 2, axis=1) if samples.shape[1] == 1 else samples
    return Sound(np.clip(both, -1, 1).astype(np.float32), rate)
