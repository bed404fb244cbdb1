"""Which requests can be met: everything is checked before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import replace

from ml.generators.base import MAX_PROMPT, MIN_SIDE, GenerationError, GenerationParams, Kind, Limits

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
