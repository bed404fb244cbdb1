"""Which wishes can be granted: everything is checked before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import replace

from ml.generators.base import MAX_PROMPT, MIN_SIDE, GenerationError, Kind, Limits, Wish

#: Generators of random numbers take 63 bits and no sign.
MAX_SEED = (1 << 63) - 1
MAX_GUIDANCE = 30.0
#: Shorter sound cannot carry the mark.
MIN_SECONDS = 2.0


def checked(wish: Wish, kind: Kind, limits: Limits) -> Wish:
    """The wish with its texts cleaned. Raises GenerationError: ``unreadable`` or ``too-large``."""
    prompt, negative = _text(wish.prompt, "prompt"), _text(wish.negative, "negative prompt")
    if not prompt:
        raise GenerationError("unreadable", "The prompt is empty: say what is wanted.")
    _within(wish.steps, 1, limits.max_steps, "steps")
    _within(wish.guidance, 0, MAX_GUIDANCE, "guidance")
    _within(wish.seed, 0, MAX_SEED, "seed")
    if kind != "audio":
        _within(wish.width, MIN_SIDE, limits.max_side, "width")
        _within(wish.height, MIN_SIDE, limits.max_side, "height")
    if kind != "image":
        _within(wish.seconds, MIN_SECONDS, limits.max_seconds, "seconds")
    return replace(wish, prompt=prompt, negative=negative)


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
