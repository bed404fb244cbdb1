"""Was this file made here? For anybody, who sees nothing else of this installation.

The file alone is looked at: its content credentials, its invisible marks, and the keys by which they are known as our
own. No row of a tenant is read, so neither the answer nor its time tells what is stored here, and nothing is kept: no
row, no file, no line in a log that says what was in it. It is opened where audits open files, in a limited process,
but by an examiner of its own: strangers take no turn of a tenant's.

What is answered is written down here, name by name. A mark names a generation, credentials name a workspace by its
certificate, and hold a digest of the prompt, the seed and ids of their own: none of these is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, cast

from django.conf import settings
from django.utils.translation import gettext as _

from ml.auditing import Examination, Examiner, Subject, merged_fields
from ml.detectors.base import PROCESS_DIED
from ml.media import sniff
from ml.provenance.signing import PRODUCT
from tenants.accounts import api_admission
from tenants.errors import Invalid, ServiceError, TooLarge, Unavailable, UnsupportedMedia
from tenants.generation import signing_keys
from tenants.long_requests import CHECKING
from tenants.pipeline.assets.uploads import HEAD, MODALITIES
from tenants.pipeline.audits import shapes
from tenants.pipeline.audits.examining import watermark_key
from tenants.retrieval.query import once

DETECTORS = ("c2pa", "watermark")
KINDS = {"image": "picture", "video": "clip", "audio": "sound"}

# --- What is passed on of a manifest ---
ACTIONS = frozenset({"c2pa.actions", "c2pa.actions.v2"})
#: They bind the manifest to the content; what they hold is a digest of the file, which the asker has.
BINDINGS = frozenset(
    {"c2pa.hash.data", "c2pa.hash.boxes", "c2pa.hash.bmff", "c2pa.hash.bmff.v2", "c2pa.hash.bmff.v3"}
)
#: Of what we write (`ml.provenance.signing`).
VERBS = frozenset({"c2pa.created"})
SOURCE_TYPES = frozenset({"trainedAlgorithmicMedia", "algorithmicMedia", "compositeSynthetic"})
_MONTH = re.compile(r"(\d{4}-(?:0[1-9]|1[0-2]))-\d\d")
#: Words at the end of a model's name: versions, and digests of its weights, which may hang on by a dash.
_VERSION = re.compile(r"v?\d+(?:\.\d+)*|[0-9a-f]{8,64}")
_DIGEST = re.compile(r"[0-9a-f]{8,64}")
#: Words, or an id of the hub. A folder of this installation is nobody's business.
_FAMILY = re.compile(r"[A-Za-z][\w .+-]*(?:/[\w.+-]+)?")
MAX_FAMILY = 60
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16,}", re.IGNORECASE)


@once
def _examiner() -> Examiner:
    return Examiner(settings.AUDIT_MEMORY_BYTES, children=2)


def admit(address: str) -> api_admission.Admission:
    """Count a check of the network that an address belongs to; what exceeds its rate is for the caller to refuse."""
    return api_admission.count_network(address, settings.PUBLIC_CHECK_RATE)


def too_large() -> TooLarge:
    return TooLarge(
        _("A file may have %(count)s MiB here. Send a smaller or shorter one.")
        % {"count": settings.PUBLIC_CHECK_BYTES // 2**20}
    )


def check_file(file: IO[bytes]) -> shapes.PublicCheck:
    """What an upload on the disk tells about where it was made. Takes seconds: outside of any scope.

    Raises Invalid, UnsupportedMedia and TooLarge for what cannot be looked at, Unavailable where it could not be now.
    """
    media_type = _media_type_of(file)
    subject = Subject(
        str(MODALITIES[media_type]),
        media_type,
        Path(cast(Any, file).temporary_file_path()),
        options={
            "watermark_key": watermark_key(),
            "own_anchors": signing_keys.own_anchors(),
            "time_stamp_anchors": signing_keys.time_stamp_anchors(),
        },
    )
    with CHECKING.taken() as there:
        if not there:
            raise Unavailable(_("Other files are being checked; try again in some seconds."))
        examination = _examiner().examine(subject, DETECTORS)
    if (error := examination.about.get("error")) is not None:
        raise _undecodable(str(error["type"]))
    modality = str(examination.about.get("modality") or subject.modality)
    return _answer(examination, modality)


def _media_type_of(file: IO[bytes]) -> str:
    file.seek(0)
    head = file.read(HEAD)
    if not head:
        raise Invalid(_("The file is empty. Choose another one."), pointer="/file")
    media_type = sniff(head)
    if media_type not in MODALITIES:
        raise UnsupportedMedia(
            _(
                "This is no picture, clip or sound that can be checked. Send JPEG, PNG, WebP, GIF, AVIF or HEIC; "
                "MP4, WebM, MOV or MKV; WAV, MP3, FLAC, OGG or M4A."
            )
        )
    return media_type


def _undecodable(why: str) -> ServiceError:
    """In words that know nothing of the file: what a decoder says may quote it."""
    if why == PROCESS_DIED:
        return Unavailable(_("The file could not be checked; try again."))
    if why == "too-large":
        return TooLarge(_("What is in this file is too large to be opened here. Send a smaller copy of it."))
    if why == "timeout":
        return Invalid(
            _("It takes too long to open this file. Send a smaller or shorter copy of it."), pointer="/file"
        )
    return Invalid(
        _("This file is damaged or incomplete, and cannot be opened. Send the file as you got it."),
        pointer="/file",
    )


# --- The answer ------------------------------------------------------------------------------------------


def _answer(examination: Examination, modality: str) -> shapes.PublicCheck:
    found = merged_fields(examination.parts)
    credentials, mark = found.get("c2pa", {}), found.get("watermark", {})
    own = bool(credentials.get("own")) and credentials.get("state") == "trusted"
    signs = [name for name, there in _signs(credentials, mark, own=own) if there]
    made_here = _verdict(signs, modality)
    # What was not looked at is not the same as what is not there.
    if made_here == "no-sign-found" and any(part.finding.cause for part in examination.parts):
        raise Unavailable(_("The file could not be checked; try again."))
    manifest = _public_manifest(credentials) if own else None
    actions = (
        [action for assertion in manifest.assertions for action in assertion.actions] if manifest else []
    )
    created = actions[0] if actions else None
    return shapes.PublicCheck(
        made_here=made_here,
        signs=signs,
        kind=KINDS[modality],
        model=created.software_agent if created else None,
        month=created.month if created else None,
        manifest=manifest,
    )


def _signs(
    credentials: Mapping[str, Any], mark: Mapping[str, Any], *, own: bool
) -> Iterator[tuple[str, bool]]:
    seen, heard = "pictures" in mark, "sound" in mark
    yield "credentials", own
    yield "changed-credentials", _changed_since(credentials)
    yield "picture-mark", seen
    yield "sound-mark", heard


def _changed_since(credentials: Mapping[str, Any]) -> bool:
    """Whether the credentials are our own, but of other content than this: it was edited, or they were moved here.

    Only our own anchors are believed (`check_file`), so a signature that holds, by somebody who is believed, is ours.
    """
    codes = [str(one.get("code")) for one in credentials.get("codes", ())]
    content = [code for code in codes if code.startswith("assertion.") and code.endswith(".mismatch")]
    return credentials.get("state") == "invalid" and bool(content) and set(codes) == set(content)


def _verdict(signs: list[str], modality: str) -> str:
    """`yes` for intact credentials of our own, or a mark in what the file mainly is; `possibly` for less.

    A sound of ours may lie under somebody else's film, and credentials of ours may have been moved to another file.
    Nothing found says nothing: marks are lost, and other generators make no mark of ours.
    """
    if "credentials" in signs or "picture-mark" in signs or ("sound-mark" in signs and modality == "audio"):
        return "yes"
    return "possibly" if signs else "no-sign-found"


def _public_manifest(credentials: Mapping[str, Any]) -> shapes.PublicManifest:
    """Of the manifest what may be known by anybody: what is not named here stays where it is."""
    labels = [str(one.get("label")) for one in credentials.get("tree", {}).get("assertions", ())]
    actions = [_public_action(one) for one in credentials.get("actions", ()) if one.get("action") in VERBS]
    assertions = [
        shapes.PublicAssertion(label=label, actions=actions if label in ACTIONS else [])
        for label in sorted(set(labels) & (ACTIONS | BINDINGS))
    ]
    return shapes.PublicManifest(
        claim_generator=PRODUCT, assertions=assertions, time_stamp=_public_time_stamp(credentials)
    )


def _public_time_stamp(credentials: Mapping[str, Any]) -> shapes.PublicTimeStamp | None:
    """Whether it holds, and the month: the moment and the authority's name stay in the file."""
    stamp = credentials.get("time_stamp") or {}
    if stamp.get("state") not in shapes.TIME_STAMPS:
        return None
    month = _MONTH.match(str(stamp.get("at") or ""))
    return shapes.PublicTimeStamp(state=stamp["state"], month=month.group(1) if month else None)


def _public_action(action: Mapping[str, Any]) -> shapes.PublicAction:
    month, source_type = _MONTH.match(str(action.get("when") or "")), action.get("source_type")
    return shapes.PublicAction(
        action=str(action["action"]),
        digital_source_type=source_type if source_type in SOURCE_TYPES else None,
        software_agent=model_family(str(action.get("software") or "")) or None,
        month=month.group(1) if month else None,
    )


def model_family(name: str) -> str:
    """A model's name without version and digest; empty for what names a folder, or holds an id."""
    words = name.split()
    while words and _VERSION.fullmatch(words[-1]):
        words.pop()
    if words:
        before, _dash, last = words[-1].rpartition("-")
        words[-1] = before if before and _DIGEST.fullmatch(last) else words[-1]
    family = " ".join(words)
    fits = len(family) <= MAX_FAMILY and _FAMILY.fullmatch(family) and not _ID.search(family)
    return family if fits else ""
