"""The lines of an export's tables, checked one by one: what comes out may be stored."""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from tenants.datasets.filenames import clean_filename
from tenants.datasets.metadata import check_json, check_metadata, check_text
from tenants.datasets.models import Asset, Dataset
from tenants.errors import Invalid
from tenants.learning.dataset_versions import MAX_NAME, MAX_NOTE
from tenants.pipeline.assets.uploads import EXCERPT, MAX_CAPTION, check_captions, check_external_id
from tenants.pipeline.transfer.export_layout import (
    ASSET,
    BLOB,
    DATASET,
    DATASET_VERSION,
    STANDING,
    TRANSCRIPT,
    VERSION_ASSET,
)
from tenants.retrieval.models import StandingQuery

MAX_WORDS = 100_000
MAX_INT = 2**31 - 1
MAX_LABELS = 100
MODERATION = ("", "quarantined", "allow", "label", "review", "block")
NONE = type(None)
_DIGEST = re.compile(r"[0-9a-f]{64}")
Types = Mapping[str, tuple[type, ...]]

_STANDING: Types = {
    **dict.fromkeys(("name", "state", "frequency"), (str,)),
    **dict.fromkeys(("muted", "inbox"), (bool,)),
    "query": (dict,),
    "min_score": (int, float, NONE),
}
_DATASET: Types = {
    "name": (str,),
    "description": (str,),
    "metadata_schema": (dict,),
    "retention_days": (int, NONE),
    "duplicates": (str,),
}
_ASSET: Types = {
    "sha256": (str,),
    "external_id": (str, NONE),
    "filename": (str,),
    "caption": (str,),
    "more_captions": (list,),
    "excerpt": (str,),
    "metadata": (dict,),
    "error": (dict, NONE),
    "moderation": (str,),
    "labels": (list,),
    "generation_id": (str, NONE),
    "prompt": (str,),
    "revision": (int,),
}
_BLOB: Types = {
    "sha256": (str,),
    "bytes": (int,),
    "media_type": (str,),
    "width": (int, NONE),
    "height": (int, NONE),
    "clean_type": (str,),
    "has_thumbnail": (bool,),
    "details": (dict, NONE),
    "document": (dict, NONE),
}
_VERSION: Types = {
    "name": (str,),
    "note": (str,),
    "made_from": (dict,),
    "asset_count": (int,),
    "kinds": (dict,),
    "digest": (str,),
    "gone": (int,),
    "created_by": (str,),
}
_TRANSCRIPT: Types = {
    "start_s": (int, float),
    "end_s": (int, float),
    "text": (str,),
    "confidence": (int, float),
}


def dataset(row: dict[str, Any]) -> dict[str, Any]:
    """Raises Invalid, as the others here. Names and schema are checked by the service that makes datasets."""
    row = {"duplicates": Dataset.Duplicates.KEEP.value, **row}
    _typed(row, DATASET, _DATASET)
    return {**row, "id": _id(row["id"]), "created_at": _time(row["created_at"])}


def asset(row: dict[str, Any]) -> dict[str, Any]:
    # Exports from before there was auditing, generation, names or several captions say nothing of it.
    earlier: dict[str, Any] = {
        "moderation": "",
        "labels": [],
        "generation_id": None,
        "prompt": "",
        "filename": "",
        "more_captions": [],
    }
    row = {**earlier, **row}
    _typed(row, ASSET, _ASSET)
    _check_labels(row["labels"])
    named = (("modality", Asset.Modality.values), ("status", Asset.State.values), ("moderation", MODERATION))
    for name, choices in named:
        if row[name] not in choices:
            raise Invalid(_("%(name)s is one of %(names)s.") % {"name": name, "names": ", ".join(choices)})
    for name, longest in (("caption", MAX_CAPTION), ("excerpt", EXCERPT), ("prompt", MAX_CAPTION)):
        _check_length(row[name], name, longest)
    captions = _checked_captions(row)
    # As it stood in the workspace that was exported, whatever may be written now.
    check_metadata(row["metadata"], {}, before=row["metadata"])
    check_json(row["error"], "/error")
    _bounded(row, "revision", least=1)
    external_id = check_external_id(row["external_id"])
    named_ids = [name for name in ("id", "dataset_id", "generation_id") if row[name] is not None]
    ids = {name: _id(row[name]) for name in named_ids}
    names = {"external_id": external_id, "filename": clean_filename(row["filename"])}
    return {**row, **ids, **names, **captions, "created_at": _time(row["created_at"])}


def _check_length(text: str, name: str, longest: int) -> None:
    check_text(text, f"/{name}")
    if len(text) > longest:
        raise Invalid(_("%(name)s has at most %(longest)s characters.") % {"name": name, "longest": longest})


def _checked_captions(row: dict[str, Any]) -> dict[str, Any]:
    """Both columns, as an asset of this installation has them."""
    others = row["more_captions"]
    if any(not isinstance(one, str) for one in others):
        raise Invalid(_("%(name)s has a value of the wrong type.") % {"name": "more_captions"})
    if not others:
        return {}
    kept = check_captions([row["caption"], *others], "/more_captions")
    return {"caption": kept[0] if kept else "", "more_captions": list(kept[1:])}


def _check_labels(labels: list[Any]) -> None:
    if len(labels) > MAX_LABELS or any(not isinstance(label, str) or len(label) > 60 for label in labels):
        raise Invalid(_("labels are at most %(labels)s texts of 60 characters.") % {"labels": MAX_LABELS})
    check_json(labels, "/labels")


def blob(row: dict[str, Any]) -> dict[str, Any]:
    # Exports from before there were documents say nothing of them.
    row = {"document": None, **row}
    _typed(row, BLOB, _BLOB)
    for name in ("width", "height"):
        if row[name] is not None:
            _bounded(row, name, least=1)
    for name in ("media_type", "clean_type"):
        check_text(row[name], f"/{name}")
        if len(row[name]) > 100:
            raise Invalid(_("%(name)s has at most 100 characters.") % {"name": name})
    if row["details"] is not None:
        _check_details(row["details"])
    return {**row, "created_at": _time(row["created_at"])}


def _check_details(details: dict[str, Any]) -> None:
    """What is shown of sound and film, and drawn as a waveform."""
    check_json(details, "/details")
    shown = {"duration_s": (int, float), "has_sound": (bool,), "examined": (dict,)}
    peaks = details.get("peaks", [])
    drawable = isinstance(peaks, list) and len(peaks) <= 10_000 and all(type(p) is int for p in peaks)
    if not drawable or any(not isinstance(details.get(name), types) for name, types in shown.items()):
        raise Invalid(_("details lack duration_s, has_sound or examined, or hold them in another type."))


def dataset_version(row: dict[str, Any]) -> dict[str, Any]:
    _typed(row, DATASET_VERSION, _VERSION)
    check_json(row, "")
    for name, least, longest in (("name", 1, MAX_NAME), ("note", 0, MAX_NOTE), ("created_by", 0, 100)):
        if not least <= len(row[name]) <= longest:
            raise Invalid(
                _("%(name)s has at most %(longest)s characters.") % {"name": name, "longest": longest}
            )
    _bounded(row, "asset_count", least=1)
    counted = all(kind in Asset.Modality.values and type(n) is int for kind, n in row["kinds"].items())
    if not _DIGEST.fullmatch(row["digest"]) or not counted:
        raise Invalid(_("A version has a SHA-256 in hex, and counts by modality."))
    ids = {name: _id(row[name]) for name in ("id", "dataset_id")}
    return {**row, **ids, "created_at": _time(row["created_at"])}


def standing_query(row: dict[str, Any]) -> dict[str, Any]:
    """What it asks is checked where it is encoded."""
    _typed(row, STANDING, _STANDING)
    check_json(row, "")
    known = (("state", StandingQuery.State.values), ("frequency", StandingQuery.Frequency.values))
    if not 1 <= len(row["name"]) <= MAX_NAME or any(row[name] not in values for name, values in known):
        raise Invalid(_("A standing query has a name, a state and a frequency."))
    return row


def dataset_version_asset(row: dict[str, Any]) -> dict[str, Any]:
    _typed(row, VERSION_ASSET, {"digest": (str,)})
    if not _DIGEST.fullmatch(row["digest"]):
        raise Invalid(_("A version has a SHA-256 in hex, and counts by modality."))
    ids = {name: _id(row[name]) for name in ("version_id", "asset_id")}
    return {**ids, "digest": bytes.fromhex(row["digest"])}


def transcript(row: dict[str, Any]) -> dict[str, Any]:
    _typed(row, TRANSCRIPT, _TRANSCRIPT)
    check_json(row, "")
    if len(row["text"]) > MAX_WORDS:
        raise Invalid(_("text has at most %(words)s characters.") % {"words": MAX_WORDS})
    return {**row, "asset_id": _id(row["asset_id"])}


def _typed(row: dict[str, object], fields: tuple[str, ...], types: Types) -> None:
    if set(row) != set(fields):
        raise Invalid(_("The fields are %(names)s.") % {"names": ", ".join(fields)})
    for name, allowed in types.items():
        # JSON's true is an int to Python.
        if not isinstance(row[name], allowed) or (isinstance(row[name], bool) and bool not in allowed):
            raise Invalid(_("%(name)s has a value of the wrong type.") % {"name": name})


def _bounded(row: dict[str, Any], name: str, least: int) -> None:
    if not least <= row[name] <= MAX_INT:
        raise Invalid(
            _("%(name)s is a number from %(least)s to %(int)s.")
            % {"name": name, "least": least, "int": MAX_INT}
        )


def _id(value: Any) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except (ValueError, AttributeError, TypeError) as error:
        raise Invalid(_("An id is a UUID.")) from error


def _time(value: Any) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(value)
    except (ValueError, TypeError) as error:
        raise Invalid(_("created_at is a time in ISO 8601.")) from error
    if moment.tzinfo is None or not 1970 <= moment.year < 2200:
        raise Invalid(_("created_at is a time in ISO 8601 with its zone."))
    return moment
