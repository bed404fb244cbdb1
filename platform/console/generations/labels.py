"""What generators, states and marks of generations mean to a reader."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from tenants.generation.models import Generation
from tenants.generation.validation import SETTINGS

#: In the order in which they are offered and shown.
KINDS = {
    "image": gettext_lazy("Picture"),
    "video": gettext_lazy("Clip"),
    "audio": gettext_lazy("Music"),
}

SYMBOLS = {"image": "image", "video": "film", "audio": "music-note-beamed"}

# Generators that ship: name, what to expect, and the licence of the weights or instruments.
BUNDLED: Mapping[str, tuple[object, object, object]] = {
    "small-picture": (
        gettext_lazy("Composer of designs"),
        gettext_lazy(
            "A small demo generator: it composes scenes of things that it knows by name. What its model draws well "
            "enough is drawn, the rest is taken from open emoji designs; the result says which."
        ),
        gettext_lazy(
            "trained on and composed of emoji under open licences, named in NOTICE and with each result"
        ),
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
    "layout": gettext_lazy("Composed by rules from what a model drew and from open designs"),
}

# How one thing of a composed picture came about.
PART_HOW = {
    "drawn": gettext_lazy("drawn by the model"),
    "taken": gettext_lazy("taken from %(name)s, by %(author)s, %(licence)s"),
}

_OPERATOR = gettext_lazy("Ask whoever runs this installation to look at it; the log of the worker says more.")

_LATER = gettext_lazy("Try again later; if it stays so, ask whoever runs this installation.")

_NOT_DECODED = gettext_lazy("The starting picture could not be decoded.")

_ANOTHER = gettext_lazy("Start with another picture, or without one.")

# An end that is no success, by the type of the error: what happened, and what can be done about it. What a generator
# itself says (`ml.generators.base.Code`) is English, for programs and operators.
ENDS: Mapping[str, tuple[object, object]] = {
    "not-installed": (
        gettext_lazy("Something this needs is not installed here."),
        gettext_lazy("Ask whoever runs this installation to install the generator, or leave this kind out."),
    ),
    "no-such-model": (
        gettext_lazy("The generator configured for this installation is missing."),
        gettext_lazy("Ask whoever runs this installation to put the model there, or to correct its id."),
    ),
    "out-of-memory": (
        gettext_lazy("There was not enough memory."),
        gettext_lazy("Choose a smaller size or fewer seconds, or try again when the system is less busy."),
    ),
    "too-large": (
        gettext_lazy("It is more than this generator can make."),
        gettext_lazy("Choose a smaller size, fewer steps or fewer seconds."),
    ),
    "unreadable": (
        gettext_lazy("The generator cannot read what it was given."),
        gettext_lazy(
            "Change the words or the options. If it stays so, ask whoever runs this installation to look at the "
            "files of the model."
        ),
    ),
    "not-marked": (
        gettext_lazy("Its marks could not be read back, so nothing was released."),
        gettext_lazy("Try again with another seed or a larger size."),
    ),
    "failed": (
        gettext_lazy("The generator failed."),
        gettext_lazy(
            "Try again, with another seed or other words; if it stays so, tell whoever runs this installation."
        ),
    ),
    Generation.PROMPT_BLOCKED: (
        gettext_lazy("The content policy does not allow this prompt."),
        gettext_lazy("Word the prompt differently, or ask whoever maintains the content policy."),
    ),
    Generation.OUTPUT_BLOCKED: (
        gettext_lazy("The content policy keeps out what was made."),
        gettext_lazy("Try another seed or wording, or ask whoever maintains the content policy."),
    ),
    # Not of generators, but of what stands around them.
    "not-found": (
        gettext_lazy("What it belongs to was deleted in the meantime."),
        gettext_lazy("Start it again with a dataset that exists."),
    ),
    "invalid": (
        gettext_lazy("Something in the request cannot be used."),
        gettext_lazy("Change the words or the options, or start with another picture."),
    ),
    "quota-exceeded": (
        gettext_lazy("The plan has no room for what was made."),
        gettext_lazy("Delete what is no longer needed, or ask for a larger plan."),
    ),
    "storage-full": (
        gettext_lazy("The disk of this installation is full."),
        gettext_lazy("Ask whoever runs this installation to make room, then try again."),
    ),
    "infected": (gettext_lazy("The scanner for malware refuses the file."), _OPERATOR),
    "unavailable": (gettext_lazy("Something this needs was unavailable."), _LATER),
    "model-unavailable": (gettext_lazy("A model this needs was unavailable."), _LATER),
    "corrupt": (_NOT_DECODED, _ANOTHER),
    "empty": (_NOT_DECODED, _ANOTHER),
    "unsupported": (_NOT_DECODED, _ANOTHER),
    "unsupported-media-type": (_NOT_DECODED, _ANOTHER),
    "timeout": (gettext_lazy("Decoding a file took too long."), _LATER),
    "decoder-died": (gettext_lazy("The starting picture could not be checked."), _LATER),
    "dead-letter": (gettext_lazy("The worker stopped at every attempt without a result."), _OPERATOR),
    "internal-error": (gettext_lazy("Something unexpected went wrong."), _OPERATOR),
}

END = gettext_lazy("It could not be generated.")

REMEDY = gettext_lazy("Nothing was released, and nothing counts towards the quota. Try again.")


@dataclass(frozen=True)
class OutputOption:
    """One kind of output as the form offers it. `setting` is how it is switched on where it is off."""

    kind: str
    label: Any
    symbol: str
    is_on: bool
    setting: str
    name: Any = ""
    note: Any = ""
    licence: object = ""


def output_options() -> list[OutputOption]:
    """What can be asked for on this installation, as its settings name the generators."""
    return [_output_option(kind, settings.GENERATORS.get(kind, "")) for kind in KINDS]


def _output_option(kind: str, spec: str) -> OutputOption:
    known = BUNDLED.get(spec) or (spec.partition(":")[2] or spec, _operators(), _("see the model’s own page"))
    name, note, licence = known if spec else ("", "", "")
    return OutputOption(kind, KINDS[kind], SYMBOLS[kind], bool(spec), SETTINGS[kind], name, note, licence)


def _operators() -> str:
    return _("A model that whoever runs this installation chose.")


def reason_of(error: Mapping[str, object] | None) -> str:
    """What happened, in the language of the page; of a code that is new here what was kept in English."""
    if known := ENDS.get(_type_of(error)):
        return str(known[0])
    detail = str((error or {}).get("detail") or "")
    # One of ours may be in the catalogue.
    return _(detail) if detail else str(END)


def remedy_of(error: Mapping[str, object] | None) -> str:
    known = ENDS.get(_type_of(error))
    return str(known[1] if known else REMEDY)


def generator_message_of(error: Mapping[str, Any] | None) -> str:
    """The English of the generator or worker itself, where the page says it otherwise: it names models and figures."""
    kind = _type_of(error)
    # Of a refusal by the policy the page says all that there is.
    return str((error or {}).get("detail") or "") if kind in ENDS and kind not in Generation.REFUSALS else ""


def _type_of(error: Mapping[str, object] | None) -> str:
    return str((error or {}).get("type") or "")
