"""Metadata: what may stand in it, the schema of its keys, and the facets that filters use.

A schema maps a key to `{"type": text|number|bool|time|tags, "required"?, "values"?, "label"?, "guessed"?}`. What a
person declared is enforced when assets are added, changed or imported. A key that nobody declared gets the type of
its values, marked `guessed`: shown, followed by filters, and never enforced.
"""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from ml.normalization import normalize
from tenants.datasets.models import Facet
from tenants.datasets.values import (
    MAX_INTEGER,
    MAX_TAG,
    MAX_VALUES,
    TYPES,
    as_number,
    as_text,
    fits,
    guess_type,
    read_as,
    read_cell,
)
from tenants.errors import Invalid

Schema = dict[str, dict[str, Any]]

# The key by which filters find what was made here.
GENERATED = "generated"

# The key that holds an asset's tags, as a list: filtered, counted, imported and exported like any other key.
TAGS = "tags"
MAX_TAGS = 50
MAX_TAG_LENGTH = 64
# Between tags in a table's cell, so that no tag may contain them.
TAG_BREAKS = frozenset(",;|")

# How the keys of facets begin that were computed, not given: no metadata is filtered by under such a key.
COMPUTED = "\x1f"

MAX_KEYS = 100
MAX_KEY = 100
MAX_LABEL = 100
MAX_ENUMERATION = 200
MAX_DEPTH = 8


def expected(kind: str) -> str:
    """What a value of that type has to be, in words."""
    match kind:
        case "number":
            return _("Expected number.")
        case "bool":
            return _("Expected true or false.")
        case "time":
            return _("Expected an ISO 8601 time, such as 2026-05-01 or 2026-05-01T12:30:00Z.")
        case "tags":
            said = _("Expected a list of at most %(values)s texts of at most %(characters)s characters.")
            return said % {"values": MAX_VALUES, "characters": MAX_TAG}
        case _other:
            return _("Expected text.")


def check_text(value: str, pointer: str) -> None:
    """Raises Invalid for text that PostgreSQL or UTF-8 cannot hold."""
    if "\x00" in value:
        raise Invalid(_("Text must not contain NUL characters."), pointer=pointer)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Invalid(_("Text must not contain unpaired surrogates."), pointer=pointer) from None


def check_json(value: object, pointer: str, depth: int = 0) -> None:
    """Raises Invalid for JSON that cannot be stored: NUL, surrogates, infinities, lost digits, too deep."""
    if depth > MAX_DEPTH:
        raise Invalid(_("Nested more than %(depth)s levels deep.") % {"depth": MAX_DEPTH}, pointer=pointer)
    if isinstance(value, str):
        check_text(value, pointer)
    elif isinstance(value, int | float):
        _check_number(value, pointer)
    elif isinstance(value, dict):
        for key, item in value.items():
            check_text(key, pointer)
            check_json(item, f"{pointer}/{key}", depth + 1)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_json(item, f"{pointer}/{index}", depth + 1)


def _check_number(value: float, pointer: str) -> None:
    # Facets and filters compare numbers as float8.
    if not abs(value) <= sys.float_info.max:
        raise Invalid(_("Numbers must be finite, and not beyond what 64 bits can hold."), pointer=pointer)
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise Invalid(
            _("Integers beyond %(integer)s lose digits; send them as text.") % {"integer": MAX_INTEGER},
            pointer=pointer,
        )


# --- Values against the schema ---------------------------------------------------------------------------


def stored_bytes(metadata: Mapping[str, Any]) -> int:
    """What metadata takes: its JSON in UTF-8, without blanks. None at all takes nothing."""
    return len(json.dumps(metadata, ensure_ascii=False, separators=(",", ":")).encode()) if metadata else 0


def check_metadata(
    metadata: object,
    schema: Schema,
    pointer: str = "/metadata",
    *,
    at_most: float | None = None,
    before: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """The metadata, if it is a JSON object that can be stored and fits what is declared. Raises Invalid.

    `at_most`: bytes that it may take; None for as many as it likes. A list of tags is put into its normal form, unless
    it stood like that `before`: those of earlier releases may be longer than they may be now.
    """
    if not isinstance(metadata, dict):
        raise Invalid(_("Metadata must be a JSON object."), pointer=pointer)
    if len(metadata) > MAX_KEYS:
        raise Invalid(_("At most %(keys)s keys.") % {"keys": MAX_KEYS}, pointer=pointer)
    check_json(metadata, pointer)
    if any(not key or len(key) > MAX_KEY for key in metadata):
        raise Invalid(_("Keys have 1 to %(key)s characters.") % {"key": MAX_KEY}, pointer=pointer)
    metadata = _with_plain_tags(metadata, schema, pointer, before or {})
    if at_most is not None and (size := stored_bytes(metadata)) > at_most:
        raise Invalid(
            _(
                "The metadata takes %(size)s bytes; the plan allows %(most)s for each asset. "
                "Keep long values elsewhere, or ask the operator for a larger plan."
            )
            % {"size": size, "most": f"{at_most:g}"},
            pointer=pointer,
        )
    for key, problem in misfits(metadata, schema):
        raise Invalid(problem, pointer=f"{pointer}/{key}")
    return metadata


def _with_plain_tags(
    metadata: dict[str, object], schema: Schema, pointer: str, before: Mapping[str, object]
) -> dict[str, object]:
    tags, entry = metadata.get(TAGS), schema.get(TAGS, {})
    declared = not entry.get("guessed", True) and entry["type"] != "tags"
    if declared or tags == before.get(TAGS) or not isinstance(tags, list):
        return metadata
    texts = [tag for tag in tags if isinstance(tag, str)]
    return {**metadata, TAGS: check_tags(texts, f"{pointer}/{TAGS}")} if len(texts) == len(tags) else metadata


def tags_of(metadata: Mapping[str, object]) -> list[str]:
    """The tags of an asset with this metadata; a single text counts as it would in a table's cell."""
    value = metadata.get(TAGS)
    found = read_as(value, "tags") if isinstance(value, str) else value
    return [tag for tag in found if isinstance(tag, str)] if isinstance(found, list) else []


def check_tags(tags: Iterable[str], pointer: str = "/tags") -> list[str]:
    """In their order and in Unicode's composed form, without further blanks, empty ones, and ones that differ in
    nothing but case from an earlier one. Raises Invalid for what is too much, or cannot stand in a table's cell."""
    kept: dict[str, str] = {}
    for tag in tags:
        check_text(tag, pointer)
        plain = " ".join(normalize("NFC", tag).split()) if len(tag) <= 4 * MAX_TAG_LENGTH else tag
        if len(plain) > MAX_TAG_LENGTH:
            raise Invalid(_("A tag has at most %(n)s characters.") % {"n": MAX_TAG_LENGTH}, pointer=pointer)
        if TAG_BREAKS & set(plain) or any(unicodedata.category(sign) == "Cc" for sign in plain):
            raise Invalid(
                _("A tag contains no comma, semicolon, vertical bar or control character."), pointer=pointer
            )
        if plain:
            kept.setdefault(plain.casefold(), plain)
    if len(kept) > MAX_TAGS:
        raise Invalid(_("An asset has at most %(n)s tags.") % {"n": MAX_TAGS}, pointer=pointer)
    return list(kept.values())


def misfits(metadata: Mapping[str, object], schema: Schema) -> Iterator[tuple[str, str]]:
    """The keys whose values are not as declared, each with what was expected."""
    for key, entry in schema.items():
        if problem := _misfit(metadata.get(key), entry):
            yield key, problem


def _misfit(value: Any, entry: dict[str, Any]) -> str:
    if entry.get("guessed"):
        return ""
    if value is None:
        return "This field is required." if entry.get("required") else ""
    if not fits(value, entry["type"]):
        return expected(entry["type"])
    allowed = entry.get("values")
    if allowed and not {as_text(item) for item in _values(value)} <= {as_text(item) for item in allowed}:
        return _("Expected one of %(values)s.") % {"values": _listed(allowed)}
    return ""


def _listed(values: list[Any]) -> str:
    shown = ", ".join(str(value)[:40] for value in values[:10])
    return f"{shown}, …" if len(values) > 10 else shown


def _values(value: object) -> list[Any]:
    return value[:MAX_VALUES] if isinstance(value, list) else [value]


def coerce(value: str, entry: Mapping[str, Any] | None) -> Any:
    """The text of a table's cell as a JSON value of the type that its column has.

    Raises Invalid if the type was declared and the text is none of it; a guess that does not fit leaves the text.
    """
    text = value.strip()
    if entry is None:
        return read_cell(text)
    read = read_as(text, entry["type"])
    if read is None and not entry.get("guessed"):
        raise Invalid(expected(entry["type"]))
    return text if read is None else read


# --- The schema ------------------------------------------------------------------------------------------


def check_schema(schema: object, pointer: str = "/metadata_schema") -> Schema:
    """The schema, if every entry is as the head of this module says. Raises Invalid and names the place."""
    if not isinstance(schema, dict) or len(schema) > MAX_KEYS:
        raise Invalid(
            _("A schema is an object of at most %(keys)s keys.") % {"keys": MAX_KEYS}, pointer=pointer
        )
    check_json(schema, pointer)
    for key, entry in schema.items():
        place = f"{pointer}/{key}"
        if not key or len(key) > MAX_KEY or not isinstance(entry, dict) or entry.get("type") not in TYPES:
            raise Invalid(
                _('Each key maps to {"type": one of %(names)s}.') % {"names": ", ".join(TYPES)}, pointer=place
            )
        _check_entry(entry, place)
    return schema


def _check_entry(entry: dict[str, Any], place: str) -> None:
    if unknown := set(entry) - {"type", "required", "values", "label", "guessed"}:
        raise Invalid(
            _("Known are type, required, values, label, guessed."), pointer=f"{place}/{min(unknown)}"
        )
    for flag in ("required", "guessed"):
        if not isinstance(entry.get(flag, False), bool):
            raise Invalid(_("Expected true or false."), pointer=f"{place}/{flag}")
    if entry.get("guessed") and (entry.get("required") or entry.get("values")):
        raise Invalid(_("What is guessed is not enforced: leave `guessed` out."), pointer=f"{place}/guessed")
    label = entry.get("label", "")
    if not isinstance(label, str) or len(label) > MAX_LABEL:
        raise Invalid(
            _("A label is a text of at most %(label)s characters.") % {"label": MAX_LABEL},
            pointer=f"{place}/label",
        )
    _check_enumeration(entry.get("values", []), entry["type"], f"{place}/values")


def _check_enumeration(values: object, kind: str, place: str) -> None:
    if not isinstance(values, list) or len(values) > MAX_ENUMERATION:
        raise Invalid(
            _("The allowed values are a list of at most %(enumeration)s.") % {"enumeration": MAX_ENUMERATION},
            pointer=place,
        )
    for index, value in enumerate(values):
        if isinstance(value, list) or not fits([value] if kind == "tags" else value, kind):
            raise Invalid(expected("text" if kind == "tags" else kind), pointer=f"{place}/{index}")


def guess_batch(schema: Schema, rows: Iterable[Mapping[str, object]]) -> Schema:
    """The schema with guesses for keys that it lacks; a guess that no longer fits falls back to text."""
    kinds: dict[str, str] = {}
    for row in rows:
        for key, value in row.items():
            entry = schema.get(key)
            if (entry is None or entry.get("guessed")) and (kind := guess_type(value)):
                kinds[key] = _joined(kinds.get(key, kind), kind)
    merged = dict(schema)
    for key, kind in kinds.items():
        if key in schema:
            merged[key] = {**schema[key], "type": _joined(schema[key]["type"], kind)}
        elif len(merged) < MAX_KEYS:
            merged[key] = {"type": kind, "guessed": True}
    return merged


def _joined(one: str, other: str) -> str:
    """The type for values of two types: what is a single text here and several there are tags."""
    if one == other:
        return one
    return "tags" if "tags" in (one, other) and {one, other} <= {"tags", "text", "time"} else "text"


# --- Facets ----------------------------------------------------------------------------------------------


def facets_of(asset_id: Any, metadata: dict[str, object], schema: Schema | None = None) -> Iterator[Facet]:
    """One facet a filterable value. Numbers and times also stand as text, so that a guess can change later.

    `schema` matters for values that are older than it: a text that spells a value of the key's type stands as one.
    """
    for key, value in metadata.items():
        if key.startswith(COMPUTED):
            continue
        seen: set[tuple[str | None, float | None]] = set()
        for item in _typed(value, schema.get(key)) if schema else _values(value):
            # Of a nested value only that it is there.
            text, number = as_text(item), as_number(item)
            if item is None or (text, number) in seen:
                continue
            seen.add((text, number))
            yield Facet(asset_id=asset_id, key=key, text=text, number=number)


def given_facets(asset_ids: Iterable[Any]) -> QuerySet[Facet]:
    """The facets of assets that stand for their metadata, without those that were computed."""
    return Facet.objects.filter(asset_id__in=asset_ids).exclude(key__startswith=COMPUTED)


def _typed(value: Any, entry: Mapping[str, Any] | None) -> list[object]:
    if not isinstance(value, str) or not entry or entry["type"] in {"text", "time"}:
        return _values(value)
    read = read_as(value.strip(), entry["type"])
    return _values(value if read is None else read)
