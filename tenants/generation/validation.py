"""What may be asked of a generation, checked."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from django.utils.translation import gettext as _

from tenants.datasets.metadata import check_text
from tenants.errors import Invalid
from tenants.generation.models import Generation
from tenants.names import OVERRULING

KINDS = Generation.KINDS
SETTINGS = {"image": "GENERATOR_IMAGE", "video": "GENERATOR_VIDEO", "audio": "GENERATOR_AUDIO"}
MAX_PROMPT = 2_000
MAX_SEED = 2**31 - 1
# Least and most of each.
BOUNDS: dict[str, tuple[float, float]] = {
    "seed": (0, MAX_SEED),
    "steps": (1, 100),
    "guidance": (0, 20),
    "width": (256, 1024),
    "height": (256, 1024),
    "seconds": (2, 30),
}
# Files are cut into blocks of so many pixels.
GRID = 8


@dataclass(frozen=True)
class GenerationSpec:
    """`outputs` from KINDS; without a seed one is drawn. `seconds` is how long music and clips with music are."""

    prompt: str = ""
    negative: str = ""
    outputs: Sequence[str] = ("image",)
    seed: int | None = None
    steps: int = 25
    guidance: float = 3.0
    width: int = 512
    height: int = 512
    seconds: float = 10.0


NAMES = tuple(field.name for field in fields(GenerationSpec))


def checked(wanted: GenerationSpec) -> GenerationSpec:
    """With the outputs in order and the words without blanks around them. Raises Invalid with a pointer."""
    prompt, negative = wanted.prompt.strip(), wanted.negative.strip()
    if not prompt:
        raise Invalid(_("Say in words what to make."), pointer="/prompt")
    _check_words(prompt, "/prompt")
    _check_words(negative, "/negative")
    if not wanted.outputs or any(kind not in KINDS for kind in wanted.outputs):
        raise Invalid(_("Choose from %(names)s.") % {"names": ", ".join(KINDS)}, pointer="/outputs")
    for name, (least, most) in BOUNDS.items():
        _check_number(name, getattr(wanted, name), least, most)
    outputs = tuple(kind for kind in KINDS if kind in wanted.outputs)
    return replace(wanted, prompt=prompt, negative=negative, outputs=outputs)


def _check_words(words: str, pointer: str) -> None:
    if len(words) > MAX_PROMPT:
        raise Invalid(_("At most %(prompt)s characters.") % {"prompt": f"{MAX_PROMPT:,}"}, pointer=pointer)
    check_text(words, pointer)
    if any(_is_control(sign) for sign in words):
        raise Invalid(_("Text must not contain control characters."), pointer=pointer)


def _is_control(sign: str) -> bool:
    # With what overrules directions a prompt would look like another one.
    return sign in OVERRULING or (unicodedata.category(sign) == "Cc" and sign not in "\t\n\r")


def _check_number(name: str, value: float | None, least: float, most: float) -> None:
    if value is None and name == "seed":
        return
    if value is None or not least <= value <= most:
        raise Invalid(
            _("A number from %(least)s to %(most)s.") % {"least": f"{least:g}", "most": f"{most:.10g}"},
            pointer=f"/{name}",
        )
    if name in ("width", "height") and value % GRID:
        raise Invalid(_("A multiple of %(grid)s.") % {"grid": GRID}, pointer=f"/{name}")
