"""The search form as a query, and as an address: links, reload and the back button work."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.http import QueryDict
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.paging import parse_id
from console.search.refinements import Refinements
from ml.classification import LINE
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Invalid, NotFound
from tenants.retrieval import Query, computed_fields, filters
from tenants.retrieval.filters import MAX_KEYS

PAGE = 24

TASK = "general"

# Parts of a query that a person can weigh; else the task and its gate do. What is spoken becomes words.
WEIGHED = ("text", "image", "like")

WEIGH, PROPOSED = "weigh", "proposed"

FOLD = "duplicates"

MAX_TEXT = 10_000

MAX_DIGITS = 3

OPERATORS = (
    ("eq", gettext_lazy("is")),
    ("ne", gettext_lazy("is not")),
    ("lt", gettext_lazy("less than")),
    ("lte", gettext_lazy("at most")),
    ("gt", gettext_lazy("more than")),
    ("gte", gettext_lazy("at least")),
    ("in", gettext_lazy("is one of")),
    ("exists", gettext_lazy("is present")),
)

# What results are in order by; "" is their relevance.
SORTS = (
    ("", gettext_lazy("By relevance")),
    ("newest", gettext_lazy("Newest first")),
    ("oldest", gettext_lazy("Oldest first")),
    ("name", gettext_lazy("By name")),
)

Schema = dict[str, str]

Files = MultiValueDict[str, UploadedFile]

# What a classifier answers, as a condition on its probability.
ANSWERS = {"yes": {"gte": LINE}, "no": {"lt": LINE}}


def read_query(form: QueryDict, files: Files, schema: Schema, refined: Refinements) -> Query:
    """The query that a person asked for, with what they chose in earlier results. Raises Invalid, NotFound."""
    if cursor := form.get("cursor", ""):
        return Query(cursor=cursor, top_k=PAGE)
    datasets = [_id(value, _("This dataset does not exist.")) for value in form.getlist("dataset")]
    picture, uploaded, kept = form.get("image_asset", ""), _path(files, "image"), form.get("file", "")
    query = Query(
        text=form.get("text", "").strip(),
        like=refined.like,
        unlike=refined.unlike,
        unlike_text=form.get("unlike_text", "").strip(),
        image=uploaded,
        image_file=_id(kept, _("This picture does not exist.")) if kept and not uploaded else None,
        image_asset=_id(picture, _("This picture does not exist.")) if picture else None,
        audio=_path(files, "audio"),
        datasets=datasets or None,
        modalities=_modalities(form.getlist("modality")),
        conditions=[*filters.parse(read_filter(form, schema)), *refined.conditions()],
        generated=refined.generated,
        top_k=PAGE,
        highlight=True,
        group_duplicates=form.get("group") == FOLD,
        # What is narrowed by stays in sight, whatever else there is.
        facets=list(dict.fromkeys([*refined.keys, *schema]))[:MAX_KEYS],
        task=form.get("task", "") or TASK,
        explain=True,
        # With 0 nothing is left out or left uncounted.
        min_relevance=0.0 if shows_weak(form) else None,
        worth_showing=not shows_weak(form),
        sort=read_sort(form),
    )
    _check(query)
    # Words are fused where there are some: a picture alone is no fault of who left the box ticked.
    query.hybrid = True if "hybrid" in form and (query.text or query.audio) else None
    query.weights = _weights(query, form)
    return query


def shows_weak(form: QueryDict) -> bool:
    """Whether matches are wanted that are hardly likely to be right."""
    return form.get(WEAK) == "on"


def read_sort(form: QueryDict) -> str:
    """The order that is asked for; "" for that of relevance."""
    wanted = form.get("sort", "")
    return wanted if wanted in dict(SORTS) else ""


def is_asked(form: QueryDict, files: Files, refined: Refinements) -> bool:
    """Whether there is anything to look for."""
    words = form.get("text", "").strip() or form.get("cursor")
    picture = form.get("image_asset") or form.get("file")
    return bool(words or picture or refined.like or _path(files, "image") or _path(files, "audio"))


def _check(query: Query) -> None:
    picture = query.image or query.image_file or query.image_asset
    if not (query.text or picture or query.audio or query.like):
        raise Invalid(_("Type what you are looking for, add a picture, or speak."), pointer="/text")
    if max(len(query.text), len(query.unlike_text)) > MAX_TEXT:
        raise Invalid(_("A query has at most %(n)s characters.") % {"n": MAX_TEXT}, pointer="/text")
    if len(query.conditions) > filters.MAX_CONDITIONS:
        raise Invalid(_("At most %(n)s conditions.") % {"n": filters.MAX_CONDITIONS}, pointer="/key")


def _path(files: Files, name: str) -> Path | None:
    # Uploads lie on disk (config.uploads) until the request ends.
    file: Any = files.get(name)
    return Path(file.temporary_file_path()) if file and file.size else None


def _id(value: str, missing: str) -> uuid.UUID:
    found = parse_id(value)
    if found is None:
        raise NotFound(missing)
    return found


def _modalities(chosen: list[str]) -> list[str] | None:
    if unknown := set(chosen) - set(Asset.Modality.values):
        raise Invalid(_("Unknown modality %(name)r.") % {"name": min(unknown)}, pointer="/modality")
    return chosen or None


def read_weights(form: QueryDict) -> dict[str, int]:
    """What the sliders say, 0 to 100 a part; nothing while the weights are to be proposed."""
    if WEIGH not in form or PROPOSED in form:
        return {}
    typed = {part: form.get(f"weight_{part}", "") for part in WEIGHED}
    return {
        part: min(int(value), 100)
        for part, value in typed.items()
        if len(value) <= MAX_DIGITS and value.isascii() and value.isdecimal()
    }


def _weights(query: Query, form: QueryDict) -> dict[str, float]:
    """The sliders of the parts that there are, where there are several."""
    there = {
        "text": query.text,
        "image": query.image or query.image_file or query.image_asset,
        "like": query.like,
    }
    given = {part: value / 100 for part, value in read_weights(form).items() if there[part]}
    return given if len(given) > 1 else {}


def read_filter(form: Any, schema: Schema) -> dict[str, dict[str, Any]]:
    """The rows key, operator, value and what classifiers are to answer as a filter; rows without a key are left out.

    Raises Invalid for an answer that none gives.
    """
    rows = zip(form.getlist("key"), form.getlist("operator"), form.getlist("value"), strict=False)
    conditions: dict[str, dict[str, Any]] = {}
    for key, operator, value in rows:
        if key.strip():
            conditions.setdefault(key.strip(), {})[operator] = _typed(
                operator, value, schema.get(key.strip())
            )
    for name, answer in read_answers(form).items():
        conditions.setdefault(computed_fields.field_of(name), {}).update(ANSWERS[answer])
    return conditions


def read_answers(form: Any) -> dict[str, str]:
    """Yes or no by the name of the classifier that is to say so. Raises Invalid."""
    given = [one.rpartition(":") for one in form.getlist("classifier") if one]
    for name, _colon, answer in given:
        if not name or answer not in ANSWERS:
            raise Invalid(_("A classifier answers yes or no, as damaged:yes."), pointer="/classifier")
    return {name: answer for name, _colon, answer in given}


def _typed(operator: str, value: str, kind: str | None) -> object:
    """What was typed, as the type that the key's values have."""
    if operator == "exists":
        return value.strip().lower() not in {"no", "false", "0"}
    if operator == "in":
        return [_scalar(part.strip(), kind) for part in value.split(",") if part.strip()]
    return _scalar(value.strip(), "number" if operator in filters.RANGES and kind != "time" else kind)


def _scalar(value: str, kind: str | None) -> object:
    if kind == "number":
        try:
            return float(value)
        except ValueError:
            return value
    if kind == "bool" and value.lower() in {"true", "yes", "false", "no"}:
        return value.lower() in {"true", "yes"}
    return value


def schema_of(datasets: list[Dataset]) -> Schema:
    """The type of each metadata key over some datasets; of two declarations the newest dataset's counts."""
    merged: Schema = {}
    for dataset in datasets:
        for key, entry in dataset.metadata_schema.items():
            merged.setdefault(key, entry.get("type", "text"))
    return dict(sorted(merged.items()))


def labels_of(datasets: list[Dataset]) -> dict[str, str]:
    """What people call each metadata key, where that was declared; the newest dataset's word counts."""
    found: dict[str, str] = {}
    for dataset in datasets:
        for key, entry in dataset.metadata_schema.items():
            if entry.get("label"):
                found.setdefault(key, entry["label"])
    return found


def read_rows(form: Any) -> list[tuple[str, str, str]]:
    """The rows key, operator, value as they were typed, to be shown again."""
    rows = zip(form.getlist("key"), form.getlist("operator"), form.getlist("value"), strict=False)
    return [row for row in rows if row[0].strip()]


# What fields of the form are called in an address, where that differs.
SHORT = {"text": "q", "image_asset": "asset"}

UNFOLDED = "off"

# The field, in form and address, that asks for what is hardly likely, too.
WEAK = "weak"

# Servers and chats cut what is longer.
MAX_ADDRESS = 4_000


def form_of(given: QueryDict) -> QueryDict:
    """The query of an address as the form's fields. Near-duplicates are folded unless it says otherwise."""
    form = given.copy()
    for field, short in SHORT.items():
        form[field] = given.get(short, "")
    form.pop("group", None)
    if given.get("group") != UNFOLDED:
        form["group"] = FOLD
    return form


def address_of(form: QueryDict, refined: Refinements, text: str) -> str:
    """Where the search of a form is found again; `text` as it was understood. "" where that would be too long."""
    asked = urlencode(list(_pairs(form, refined, text)))
    address = f"{reverse('console:search')}{'?' if asked else ''}{asked}"
    return address if len(address) <= MAX_ADDRESS else ""


def _pairs(form: QueryDict, refined: Refinements, text: str) -> Iterator[tuple[str, str]]:
    yield from _present_fields("q", [text])
    yield from _present_fields("asset", [form.get("image_asset", "")])
    yield from _present_fields("file", [form.get("file", "")])
    if weights := read_weights(form):
        yield WEIGH, "on"
        yield from ((f"weight_{part}", str(value)) for part, value in weights.items())
    yield from _present_fields("like", map(str, refined.like))
    yield from _present_fields("unlike", map(str, refined.unlike))
    yield from _present_fields("only", refined.only)
    yield from _present_fields("generated", [refined.generated])
    yield from _present_fields("unlike_text", [form.get("unlike_text", "").strip()])
    for name in ("modality", "dataset", "classifier"):
        yield from _present_fields(name, form.getlist(name))
    for key, operator, value in read_rows(form):
        yield from (("key", key), ("operator", operator), ("value", value))
    if form.get("task", TASK) != TASK:
        yield from _present_fields("task", [form.get("task", "")])
    if "hybrid" in form:
        yield "hybrid", "on"
    if form.get("group") != FOLD:
        yield "group", UNFOLDED
    if shows_weak(form):
        yield WEAK, "on"
    yield from _present_fields("sort", [read_sort(form)])


def _present_fields(name: str, values: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((name, value) for value in values if value)
