"""What generators, states and marks of generations mean to a reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.generation.wishes import SETTINGS

#: In the order in which they are offered and shown.
KINDS = {
    "image": gettext_lazy("Picture"),
    "video": gettext_lazy("Clip"),
    "audio": gettext_lazy("Music"),
}
SYMBOLS = {"image": "image", "video": "film", "audio": "music-note-beamed"}
# Generators that ship: name, what to expect, and the licence of the weights or instruments.
BUNDLED: Mapping[str, tuple[Any, Any, Any]] = {
    "small-picture": (
        gettext_lazy("Small picture model"),
        gettext_lazy(
            "A small demo generator: it draws single things in the manner of emoji, at 64 pixels, and enlarges that. "
            "Several things at once it lays out side by side."
        ),
        gettext_lazy("learnt from emoji under open licences, named in NOTICE"),
    ),
    "small-clip": (
        gettext_lazy("Motion by rules"),
        gettext_lazy(
            "No model: what stands out of the picture moves to the beat, over one short cycle again and again. Its "
            "credentials say so."
        ),
        gettext_lazy("nothing beyond the picture’s"),
    ),
    "rules-music": (
        gettext_lazy("Music by rules"),
        gettext_lazy(
            "No model: composed by rules in the mood of the prompt, and said so in its credentials."
        ),
        gettext_lazy("its instruments are named in NOTICE"),
    ),
}
# How a piece came about, as its credentials say it.
HOW = {
    "model": gettext_lazy("Drawn by a trained model"),
    "rules": gettext_lazy("Made by rules, without a trained model"),
    "layout": gettext_lazy("Arranged by rules from what a model drew"),
}
# What can be done about an end that is no success, by the type of the error.
REMEDIES = {
    "not-installed": gettext_lazy(
        "Ask whoever runs this installation to install the generator, or leave this kind out."
    ),
    "no-such-model": gettext_lazy("Ask whoever runs this installation to correct the generator’s id."),
    "out-of-memory": gettext_lazy(
        "Ask for a smaller size or fewer seconds, or try again when less is going on."
    ),
    "too-large": gettext_lazy("Ask for a smaller size, fewer steps or fewer seconds."),
    "unreadable": gettext_lazy(
        "The picture to start from could not be read. Choose another one, or go without."
    ),
    "not-marked": gettext_lazy(
        "Its marks could not be read back, so nothing was released. Try again with another seed or a larger size."
    ),
    "prompt-blocked": gettext_lazy(
        "Word the prompt differently, or ask whoever maintains the content policy."
    ),
    "output-blocked": gettext_lazy(
        "Try another seed or wording, or ask whoever maintains the content policy."
    ),
}
REMEDY = gettext_lazy("Nothing was released and nothing counts against the quota. Try again.")


@dataclass(frozen=True)
class Offer:
    """One kind of output as the form offers it. `setting` is how it is switched on where it is off."""

    kind: str
    label: Any
    symbol: str
    is_on: bool
    setting: str
    name: Any = ""
    note: Any = ""
    licence: Any = ""


def offers() -> list[Offer]:
    """What can be asked for on this installation, as its settings name the generators."""
    return [_offer(kind, settings.GENERATORS.get(kind, "")) for kind in KINDS]


def _offer(kind: str, spec: str) -> Offer:
    known = BUNDLED.get(spec) or (spec.partition(":")[2] or spec, _operators(), _("see the model’s own page"))
    name, note, licence = known if spec else ("", "", "")
    return Offer(kind, KINDS[kind], SYMBOLS[kind], bool(spec), SETTINGS[kind], name, note, licence)


def _operators() -> str:
    return _("A model that whoever runs this installation chose.")


def remedy_of(error: Mapping[str, Any] | None) -> Any:
    return REMEDIES.get(str((error or {}).get("type", "")), REMEDY)
