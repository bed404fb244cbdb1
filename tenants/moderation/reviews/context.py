"""What helps to decide about an item: what else its sender sent, and what people decided about items like it.

Everything here is read as the caller may read it: members who are narrowed see the items of their datasets.
"""

from __future__ import annotations

import base64
import uuid
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models.fields.json import KT
from django.db.models.functions import Substr

from ml.hashing import image_codes, words
from ml.hashing.fingerprints import Fingerprints
from ml.hashing.pdq import LIMIT as PDQ_LIMIT
from ml.hashing.pdq import HammingIndex, enough_frames_match
from ml.hashing.sounds import SoundIndex
from tenants.datasets.models import Asset
from tenants.datasets.selectors import get_assets
from tenants.learning.classifiers.features import read_features
from tenants.moderation.models import Audit, AuditRequest, Evidence, Outcome
from tenants.moderation.reviews import effects
from tenants.moderation.reviews.cases import BLOCK, ENFORCE
from tenants.moderation.reviews.figures import live_outcomes
from tenants.retrieval import model_routing

# Of a sender's audits, the newest, so many are counted and so many shown.
COUNTED, LAST = 100, 5

# Of items that people decided about, the newest, so many are compared and so many shown.
COMPARED, SIMILAR = 500, 5


@dataclass(frozen=True)
class Decided:
    """An audit with what it was decided by last: what a person said of it, or else the policy."""

    audit: Audit
    decision: str
    outcome: Outcome | None
    asset: Asset | None


@dataclass(frozen=True)
class SenderHistory:
    """Of the newest `COUNTED` audits of other items: how many were decided how, and the last of them.

    `more` if there are older ones. `strikes` are those that count now.
    """

    subject: str
    decisions: Counter[str]
    last: list[Decided]
    more: bool
    strikes: int

    @property
    def counts(self) -> list[tuple[str, int]]:
        return self.decisions.most_common()

    @property
    def audits(self) -> int:
        return self.decisions.total()


@dataclass(frozen=True)
class SimilarItem:
    """`similarity`: cosine of the two items' mean vectors."""

    asset: Asset
    outcome: Outcome
    similarity: float


@dataclass(frozen=True)
class SimilarPrint:
    """An item without vectors that is similar by its fingerprints: blocked, held back, or not kept as an asset.

    `decision` is what people said of it last, or else the policy. `by`: sha256 (the same content), pdq or looks (of
    pictures), frames, sound or words; `share`: which share of signs, frames or pieces of words they have in common.
    """

    audit: Audit
    asset: Asset | None
    decision: str
    outcome: Outcome | None
    by: str
    share: float


def sender_history(audit: Audit) -> SenderHistory | None:
    """Of who sent the audit's item, or None where nobody said who. In the tenant's scope."""
    subject = effects.subject_of(audit.id)
    if not subject:
        return None
    asked = AuditRequest.objects.filter(subject=subject).exclude(pk=audit.id).order_by("-id")
    ids = list(asked.values_list("id", flat=True)[: COUNTED + 1])
    audits = Audit.objects.in_bulk(ids[:COUNTED])
    # What is asked for and not done yet has no audit; other looks at the same item are no other items.
    known = [
        audits[one] for one in ids if one in audits and (audit.item is None or audits[one].item != audit.item)
    ]
    outcomes = _newest_outcomes([one.id for one in known])
    decisions = {one.id: outcomes[one.id].decision if one.id in outcomes else one.decision for one in known}
    assets = get_assets([one.item for one in known[:LAST] if one.item])
    last = [
        Decided(one, decisions[one.id], outcomes.get(one.id), assets.get(one.item) if one.item else None)
        for one in known[:LAST]
    ]
    return SenderHistory(
        subject,
        Counter(decisions.values()),
        last,
        len(ids) > COUNTED,
        effects.count_strikes(subject=subject),
    )


def _newest_outcomes(audit_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Outcome]:
    rows = live_outcomes().filter(audit__in=audit_ids).order_by("audit", "-id").distinct("audit")
    return {outcome.audit: outcome for outcome in rows}


def similar_decided(asset: Asset) -> list[SimilarItem]:
    """The nearest of the items that people decided about last, by the vectors that searches use; what is blocked has
    none any more. In the tenant's scope."""
    rows = live_outcomes().exclude(item=asset.id).order_by("-id")[: 2 * COMPARED]
    newest: dict[uuid.UUID, Outcome] = {}
    for outcome in rows:
        newest.setdefault(outcome.item, outcome)
    found = get_assets(list(newest)[:COMPARED])
    # A picture is compared with pictures: between kinds the cosines mean something else.
    alike = {one.id: one.modality for one in found.values() if one.modality == asset.modality}
    if not alike:
        return []
    features = read_features({asset.id: asset.modality, **alike}, model_routing.live())
    if asset.id not in features.asset_ids:
        return []
    place = features.asset_ids.index(asset.id)
    cosines = features.values @ features.values[place]
    nearest = [at for at in (-cosines).argsort(kind="stable") if at != place][:SIMILAR]
    return [
        SimilarItem(found[one], newest[one], float(cosines[at]))
        for at in nearest
        if (one := features.asset_ids[at])
    ]


# --- Items without vectors ---------------------------------------------------------------------------------

# From which share of signs in common two pictures are shown as similar. PDQ tells copies, also changed ones; looks tell
# what shows the same, too (tests/tenants/test_review_prints.py counts both on the demo's pictures).
PDQ_COMMON, LOOKS_COMMON = 1 - 60 / 256, 1 - 0.34

# Sounds and films have large fingerprints: of these so many are compared.
COMPARED_LARGE = 100

_ORDER = ("sha256", "pdq", "frames", "sound", "words", "looks")

# Of a code of looks, in base64, with two bytes of what follows it.
_LOOKS_CHARACTERS = 4 * -(-image_codes.BYTES // 3)

Found = tuple[str, float]


def similar_prints(audit: Audit) -> list[SimilarPrint]:
    """Of the items without vectors that were decided about last, by people or blocked by a policy, the most similar by
    the fingerprints in their evidence, which goes when the item is erased. In the tenant's scope."""
    newest = _decided_audits(audit)
    outcomes = _newest_outcomes(list(newest))
    assets = get_assets([one.item for one in newest.values() if one.item])
    # Others have vectors, and are compared by these.
    compared = {
        one.id: one
        for one in newest.values()
        if one.item is None or (one.item in assets and assets[one.item].moderation in Asset.HIDDEN)
    }
    found = _similar(audit, compared)
    best = sorted(found.items(), key=lambda pair: (_ORDER.index(pair[1][0]), -pair[1][1], -pair[0].int))
    return [
        SimilarPrint(
            compared[one],
            _of(assets, compared[one].item),
            outcomes[one].decision if one in outcomes else compared[one].decision,
            outcomes.get(one),
            by,
            share,
        )
        for one, (by, share) in best[:SIMILAR]
    ]


def _of(assets: Mapping[uuid.UUID, Asset], item: uuid.UUID | None) -> Asset | None:
    return assets.get(item) if item else None


def _decided_audits(audit: Audit) -> dict[uuid.UUID, Audit]:
    """Audits of other items of its kind, one of each: of the newest that people decided about, and of the newest that
    a policy blocked."""
    mine = audit.item or audit.id
    by_people = live_outcomes().exclude(item=mine).order_by("-id").values_list("audit", flat=True)
    blocked = Audit.objects.filter(decision=BLOCK, mode=ENFORCE).order_by("-id").values_list("id", flat=True)
    ids = [*by_people[: 2 * COMPARED], *blocked[: 2 * COMPARED]]
    rows = Audit.objects.filter(pk__in=ids, modality=audit.modality).order_by("-id")
    newest: dict[uuid.UUID, Audit] = {}
    for one in rows:
        if (one.item or one.id) != mine:
            newest.setdefault(one.item or one.id, one)
    return {one.id: one for one in newest.values()}


def _similar(audit: Audit, compared: Mapping[uuid.UUID, Audit]) -> dict[uuid.UUID, Found]:
    """Those that are similar, and by what."""
    same = [one.id for one in compared.values() if audit.sha256 and one.sha256 == audit.sha256]
    found: dict[uuid.UUID, Found] = dict.fromkeys(same, ("sha256", 1.0))
    # The newest first.
    others = [one for one in compared if one not in found]
    if audit.modality == Asset.Modality.IMAGE:
        found |= _similar_pictures(audit.id, others[:COMPARED])
    elif audit.modality == Asset.Modality.TEXT:
        found |= _similar_texts(audit.id, others[:COMPARED])
    elif audit.modality == Asset.Modality.VIDEO:
        found |= _similar_films(audit.id, others[:COMPARED_LARGE])
    else:
        found |= _similar_sounds(audit.id, others[:COMPARED_LARGE])
    return found


def _stored(audit_ids: Collection[uuid.UUID], *fields: str) -> Iterator[tuple[Any, ...]]:
    """Of the evidence that is kept, the audit and these fields of the fingerprints."""
    paths = [f"document__fingerprints__{field}" for field in fields]
    return iter(Evidence.objects.filter(audit__in=audit_ids).values_list("audit", *paths))


def _similar_pictures(audit_id: uuid.UUID, others: Collection[uuid.UUID]) -> dict[uuid.UUID, Found]:
    stored = next(_stored([audit_id], "pdq", "pdq_quality", "pdq_turned", "vector"), None)
    if stored is None:
        return {}
    mine = Fingerprints.read(
        dict(zip(("pdq", "pdq_quality", "pdq_turned", "vector"), stored[1:], strict=True))
    )
    found: dict[uuid.UUID, Found] = {}
    # Only the beginning of what is compared point by point elsewhere: it is forty times as long.
    looks = Substr(KT("document__fingerprints__vector"), 1, _LOOKS_CHARACTERS)
    rows = Evidence.objects.filter(audit__in=others).annotate(looks=looks)
    for one, pdq_hex, quality, code in rows.values_list(
        "audit", "document__fingerprints__pdq", "document__fingerprints__pdq_quality", "looks"
    ):
        theirs = Fingerprints.read({"pdq": pdq_hex, "pdq_quality": quality})
        hashes = (mine.pdq, *mine.turned) if mine.pdq and theirs.pdq else ()
        share = max((_in_common(hashed, theirs.pdq) for hashed in hashes), default=0.0)
        looked = _in_common(mine.code, _code(code)) if mine.code else 0.0
        if share >= PDQ_COMMON:
            found[one] = ("pdq", share)
        elif looked >= LOOKS_COMMON:
            found[one] = ("looks", looked)
    return found


def _code(stored: str | None) -> bytes:
    try:
        return base64.b64decode(stored or "")[: image_codes.BYTES]
    except ValueError:
        return b""


def _in_common(one: bytes, other: bytes) -> float:
    """The share of signs that two codes have in common; none where one is missing."""
    if not one or len(one) != len(other):
        return 0.0
    differing = np.bitwise_count(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum()
    return 1 - int(differing) / (8 * len(one))


def _similar_texts(audit_id: uuid.UUID, others: Collection[uuid.UUID]) -> dict[uuid.UUID, Found]:
    sketches = {
        one: sketch for one, stored in _stored([audit_id, *others], "words") if (sketch := _words(stored))
    }
    mine = sketches.pop(audit_id, b"")
    if not mine or not sketches:
        return {}
    rows = np.frombuffer(b"".join(sketches.values()), np.uint8).reshape(-1, words.BYTES)
    shares = zip(sketches, words.common(mine, rows), strict=True)
    return {one: ("words", float(share)) for one, share in shares if share >= words.LIMIT}


def _words(stored: object) -> bytes:
    """The sketch of a text as its evidence holds it; empty where there is none."""
    try:
        found = base64.b64decode(stored, validate=True) if isinstance(stored, str) else b""
    except ValueError:
        return b""
    return found if len(found) == words.BYTES else b""


def _similar_films(audit_id: uuid.UUID, others: Collection[uuid.UUID]) -> dict[uuid.UUID, Found]:
    prints = {
        one: Fingerprints.read({"frames": stored}).frames
        for one, stored in _stored([audit_id, *others], "frames")
        if stored
    }
    mine = prints.pop(audit_id, ())
    found: dict[uuid.UUID, Found] = {}
    for one, frames in prints.items():
        hashes = [frame.pdq for frame in frames if frame.pdq]
        if not hashes or not mine:
            continue
        index = HammingIndex(np.frombuffer(b"".join(hashes), np.uint8).reshape(len(hashes), -1))
        near = [number for number, frame in enumerate(mine) if _is_near(index, frame.pdq, frame.mirrored)]
        if enough_frames_match(near, len(mine), len(hashes)):
            found[one] = ("frames", len(near) / len(mine))
    return found


def _is_near(index: HammingIndex, *hashes: bytes) -> bool:
    return any(len(index.within(hashed, PDQ_LIMIT)[0]) for hashed in hashes if hashed)


def _similar_sounds(audit_id: uuid.UUID, others: Collection[uuid.UUID]) -> dict[uuid.UUID, Found]:
    prints = {
        one: print_.sound
        for one, stored in _stored([audit_id, *others], "sound")
        if (print_ := Fingerprints.read({"sound": stored})).sound
    }
    mine = prints.pop(audit_id, b"")
    if not mine or not prints:
        return {}
    heard = SoundIndex.of((one.bytes, content) for one, content in prints.items()).heard_in(mine)
    return {uuid.UUID(bytes=owner): ("sound", 1 - match.differing) for owner, match in heard}
