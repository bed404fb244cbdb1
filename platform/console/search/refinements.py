"""What a person chose in the results: examples, counter-examples, values of metadata. It goes with the next search."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from django.http import QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.paging import parse_id
from console.presenters import asset_name
from tenants.datasets.models import Asset
from tenants.errors import Invalid, NotFound
from tenants.retrieval import filters as retrieval_filters
from tenants.retrieval.query import MAX_ASSETS

MAX_ONLY = 10

MAX_LENGTH = 2_000

# Values of a key that are shown at once; the rest unfold.
SHOWN = 8


Facets = dict[str, dict[str, Any]]
Generated = Literal["", "include", "only"]

# What is said of assets that were made here, where they are not left out.
GENERATED_WORDS = {"include": gettext_lazy("With AI-generated"), "only": gettext_lazy("Only AI-generated")}


@dataclass
class Refinements:
    """`like` and `unlike` are ids of assets, `only` filters of one key each, as canonical JSON; `generated` as in a
    query, "" where nothing was chosen."""

    like: list[uuid.UUID] = field(default_factory=list)
    unlike: list[uuid.UUID] = field(default_factory=list)
    only: list[str] = field(default_factory=list)
    generated: Generated = ""

    def conditions(self) -> list[retrieval_filters.Condition]:
        return [one for given in self.filters() for one in retrieval_filters.parse(given, "/only")]

    def filters(self) -> list[dict[str, dict[str, object]]]:
        """Several values of a key find what has one of them."""
        values: dict[str, list[object]] = {}
        others = []
        for text in self.only:
            [(key, given)] = json.loads(text).items()
            if given.keys() == {"eq"}:
                values.setdefault(key, []).append(given["eq"])
            else:
                others.append({key: given})
        chosen = [{key: {"eq": some[0]} if len(some) == 1 else {"in": some}} for key, some in values.items()]
        return [*chosen, *others]

    @property
    def keys(self) -> list[str]:
        """Of metadata, by which was narrowed."""
        return [key for text in self.only for key in json.loads(text)]

    @property
    def asset_ids(self) -> list[uuid.UUID]:
        return [*self.like, *self.unlike]


def read_refinements(form: QueryDict) -> Refinements:
    """Hidden fields and the button that was pressed: `more`, `less`, `toggle` and `made` add, `drop` takes away.

    Buttons have names of their own, as the script sends a button instead of fields that are called the same. Raises
    Invalid, NotFound.
    """
    dropped, more, less = (form.get(name, "") for name in ("drop", "more", "less"))
    like = _assets([*form.getlist("like"), more], {dropped, less})
    unlike = _assets([*form.getlist("unlike"), less], {dropped, more})
    if set(like) & set(unlike):
        raise Invalid(_("An example is either wanted or not."), pointer="/unlike")
    only = dict.fromkeys(_canonical(text) for text in form.getlist("only") if text != dropped)
    if toggled := form.get("toggle", ""):
        pressed = _canonical(toggled)
        only = {text: None for text in [*only, pressed] if pressed not in only or text != pressed}
        only = {text: None for text in only if text == pressed or not _takes_the_place(pressed, text)}
    if len(only) > MAX_ONLY:
        raise Invalid(_("At most %(n)s values can be chosen at once.") % {"n": MAX_ONLY}, pointer="/only")
    return Refinements(like, unlike, list(only), _generated(form, dropped))


def _generated(form: QueryDict, dropped: str) -> Generated:
    match form.get("made", "") or form.get("generated", ""):
        case "" | "exclude":
            return ""
        case ("include" | "only") as chosen:
            return "" if chosen == dropped else chosen
        case _other:
            raise Invalid(_("This is no choice that the results offer."), pointer="/generated")


def _takes_the_place(pressed: str, text: str) -> bool:
    """Whether what was pressed is another range of the same key: nothing lies in two of them."""
    [(key, given)], [(other, before)] = json.loads(pressed).items(), json.loads(text).items()
    return bool(key == other and "eq" not in given and "eq" not in before)


def _assets(values: Iterable[str], without: Collection[str]) -> list[uuid.UUID]:
    found = [parse_id(value) for value in dict.fromkeys(values) if value and value not in without]
    if None in found:
        raise NotFound(_("This example does not exist."))
    if len(found) > MAX_ASSETS:
        raise Invalid(_("At most %(n)s examples can be given.") % {"n": MAX_ASSETS}, pointer="/like")
    return [one for one in found if one is not None]


def _canonical(text: str) -> str:
    """One spelling of a filter of one key. Raises Invalid."""
    try:
        given = json.loads(text) if len(text) <= MAX_LENGTH else None
    except (ValueError, RecursionError):
        given = None
    if (
        not isinstance(given, dict)
        or len(given) != 1
        or not all(isinstance(one, dict) for one in given.values())
    ):
        raise Invalid(_("This is no choice that the results offer."), pointer="/only")
    retrieval_filters.parse(given, "/only")
    return json.dumps(given, sort_keys=True, ensure_ascii=False)


# --- As shown --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Chip:
    """Something chosen that can be taken away: `name` and `value` of its hidden field."""

    name: str
    value: str
    label: str
    asset: Asset | None = None


@dataclass(frozen=True)
class Choice:
    """A value that results can be narrowed to; `place` is its id on the page, where the focus comes back to it.

    `estimated`: there are at least `count`.
    """

    label: str
    count: int
    value: str
    chosen: bool
    estimated: bool = False

    @property
    def place(self) -> str:
        return f"only-{hashlib.blake2s(self.value.encode(), digest_size=6).hexdigest()}"


@dataclass(frozen=True)
class Group:
    """The values of one key of metadata; `rest` unfolds."""

    label: str
    choices: list[Choice]
    rest: list[Choice]


def chips_of(refined: Refinements, assets: dict[uuid.UUID, Asset], labels: dict[str, str]) -> list[Chip]:
    """`assets` by id; what is gone has no picture and no words."""
    named = [("like", one) for one in refined.like] + [("unlike", one) for one in refined.unlike]
    chips = [Chip(name, str(one), _asset_label(assets.get(one)), assets.get(one)) for name, one in named]
    chips += [Chip("only", text, label_of_filter(text, labels)) for text in refined.only]
    chosen = [refined.generated] if refined.generated else []
    return chips + [Chip("generated", one, str(GENERATED_WORDS[one])) for one in chosen]


def _asset_label(asset: Asset | None) -> str:
    if asset is None:
        return _("a deleted asset")
    return asset_name(asset, otherwise=asset.get_modality_display().lower())


def label_of_filter(text: str, labels: dict[str, str]) -> str:
    """A filter of one key, as canonical JSON, in words."""
    [(key, given)] = json.loads(text).items()
    return f"{labels.get(key, key)}: {label_of(given.get('eq', given))}"


def groups_of(facets: Facets, labels: dict[str, str], chosen: Collection[str], total: int) -> list[Group]:
    """What the results can be narrowed by; `total` are all that may be found.

    Keys whose values tell nothing apart are left out.
    """
    groups = []
    for key, facet in facets.items():
        estimated = bool(facet.get("estimated"))
        choices = [_choice(key, value, chosen, estimated) for value in facet["values"] if value["count"]]
        if any(choice.chosen for choice in choices) or _tells_apart(choices, total):
            groups.append(Group(labels.get(key, key), choices[:SHOWN], choices[SHOWN:]))
    return groups


def _tells_apart(choices: Sequence[Choice], total: int) -> bool:
    """Not what all have in common, nor what nearly each has for itself: names, numbers of orders."""
    if len(choices) <= SHOWN:
        return any(choice.count < total for choice in choices)
    return 2 * sum(choice.count for choice in choices) >= total


def _choice(key: str, counted: dict[str, Any], chosen: Collection[str], estimated: bool) -> Choice:
    given = counted["value"]
    condition = {key: given if isinstance(given, dict) else {"eq": given}}
    text = json.dumps(condition, sort_keys=True, ensure_ascii=False)
    return Choice(label_of(given), counted["count"], text, text in chosen, estimated)


def label_of(value: object) -> str:
    """A value, or the conditions of a range, in words."""
    if isinstance(value, dict):
        ends = [_format_bound(value[operator]) for operator in ("gte", "lt", "lte") if operator in value]
        others = [_condition(operator, one) for operator, one in value.items() if operator not in ENDS]
        return ", ".join(filter(None, (" – ".join(dict.fromkeys(ends)), *others)))
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return str(value) if isinstance(value, str) else _format_bound(value)


ENDS = ("gte", "lt", "lte")


def _condition(operator: str, given: Any) -> str:
    """A condition that the results themselves never offer."""
    if operator == "exists":
        return _("is present") if given else _("is missing")
    if operator == "in":
        return ", ".join(label_of(one) for one in given)
    words = label_of(given)
    return f"> {words}" if operator == "gt" else _("not %(value)s") % {"value": words}


def _format_bound(value: Any) -> str:
    """A number without needless digits, a time without its zone, without midnight and the first of a month."""
    if not isinstance(value, str):
        return f"{value:,.10g}"
    moment = value.removesuffix("Z").removesuffix("+00:00").replace("T", " ")
    day = moment.removesuffix(" 00:00:00")
    return day if day == moment else day.removesuffix("-01")
