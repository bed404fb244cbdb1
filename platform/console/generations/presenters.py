"""Generations as pages show them: cards of the gallery, pieces with their marks, and what another one would take."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.audits.labels import TIME_STAMPS
from console.generations.labels import HOW, KINDS, PART_HOW, SYMBOLS
from console.labels import label_of
from tenants.accounts import quotas
from tenants.datasets import selectors as datasets
from tenants.datasets.models import Asset
from tenants.generation import selectors
from tenants.generation.models import Generation, GenerationOutput
from tenants.jobs.models import Job

#: CPU seconds of a piece of each kind by the generators that ship, before anything was measured here.
GUESSED_S = {"image": 5.0, "video": 10.0, "audio": 2.0}

# How many of the newest are looked at for what a generation takes.
MEASURED = 50

PERIOD = dt.timedelta(days=30)

QUOTA = "generations"

HIDDEN = {
    "watermark": gettext_lazy("Invisible mark"),
    "sound_watermark": gettext_lazy("Inaudible mark"),
}


@dataclass(frozen=True)
class GenerationCard:
    """A generation in the gallery. `face` is what its picture is taken from."""

    generation: Generation
    job: Job | None
    face: Asset | None
    sound: Asset | None
    waits: bool = False

    @property
    def kinds(self) -> list[tuple[str, Any]]:
        return [(SYMBOLS[kind], KINDS[kind]) for kind in KINDS if kind in self.generation.outputs]


@dataclass(frozen=True)
class Mark:
    name: Any
    state: str
    words: Any


@dataclass(frozen=True)
class PartLine:
    """One thing of a composed picture."""

    thing: str
    words: str
    is_drawn: bool
    source: str
    changed: bool


@dataclass(frozen=True)
class OutputLine:
    """A piece of a generation. Without an asset the policy kept it out."""

    kind: str
    label: Any
    asset: Asset | None
    is_shown: bool
    how: Any
    model: str
    score: float | None
    scores: list[str]
    marks: list[Mark]
    parts: list[PartLine]
    audit_id: uuid.UUID | None
    decision: str

    @property
    def is_served(self) -> bool:
        return self.asset is not None and is_served(self.asset)

    @property
    def waits(self) -> bool:
        """Whether it will be served in a moment."""
        return self.asset is not None and self.asset.status == Asset.State.PENDING and not self.is_served

    @property
    def tried(self) -> int:
        return len(self.scores)


@dataclass(frozen=True)
class Estimate:
    """`left` of the quota; None is without limit. `measured`: from what was made here."""

    cpu_s: float
    measured: bool
    left: float | None


# --- Cards and pieces ------------------------------------------------------------------------------------


def generation_cards(rows: Sequence[Generation]) -> list[GenerationCard]:
    """In two statements, however many. In the tenant's scope."""
    made = selectors.outputs_of(rows)
    found = {row.id: _visible_assets(made[row.id]) for row in rows}
    waiting = [row.job_id for row in rows if row.state in Generation.UNDER_WAY and row.job_id]
    jobs = {job.id: job for job in Job.objects.filter(pk__in=waiting)} if waiting else {}
    return [_card(row, found[row.id], jobs.get(row.job_id)) for row in rows]


def is_served(asset: Asset) -> bool:
    """Whether it was decoded: what is stored a moment ago is not."""
    return asset.blob.width is not None or asset.blob.details is not None


def _visible_assets(made: Iterable[GenerationOutput]) -> dict[str, Asset]:
    return {one.kind: one.asset for one in made if one.asset and one.asset.moderation not in Asset.HIDDEN}


def _card(row: Generation, made: Mapping[str, Asset], job: Job | None) -> GenerationCard:
    served = {kind: asset for kind, asset in made.items() if is_served(asset)}
    faces = [
        served[kind] for kind in ("image", "video") if kind in served and served[kind].blob.has_thumbnail
    ]
    waits = any(asset.status == Asset.State.PENDING for asset in made.values())
    return GenerationCard(row, job, faces[0] if faces else None, served.get("audio"), waits)


def output_lines(made: Iterable[GenerationOutput], scopes: Collection[str]) -> list[OutputLine]:
    """Pieces in the order of kinds, as far as a person with these scopes may see them."""
    place = list(KINDS)
    return [_output_line(one, scopes) for one in sorted(made, key=lambda one: place.index(one.kind))]


def _output_line(one: GenerationOutput, scopes: Collection[str]) -> OutputLine:
    return OutputLine(
        kind=one.kind,
        label=KINDS[one.kind],
        asset=one.asset,
        is_shown=one.asset is not None and datasets.is_shown(one.asset, scopes),
        how=HOW.get(one.how, one.how),
        model=one.model,
        score=one.score,
        scores=[f"{score:.3f}" for score in one.scores if score is not None],
        marks=_marks(one.provenance),
        parts=[_part(part) for part in one.provenance.get("parts", ())],
        audit_id=one.audit_id,
        decision=one.decision,
    )


def _marks(provenance: Mapping[str, Any]) -> list[Mark]:
    """What was read back from the file before it was released."""
    found = [_signed(provenance["c2pa"])] if provenance.get("c2pa") else []
    found += [_hidden(name, provenance[key]) for key, name in HIDDEN.items() if provenance.get(key)]
    if icon := provenance.get("icon"):
        said = _("“%(text)s” in a corner, visible to everyone.") % {"text": icon.get("text", "–")}
        found.append(Mark(_("Visible icon"), "present", said))
    if notice := provenance.get("notice"):
        said = _("Spoken at the start, for %(count)s seconds.") % {"count": f"{notice.get('seconds', 0):.1f}"}
        found.append(Mark(_("Spoken notice"), "present", said))
    return found


def _part(part: Mapping[str, Any]) -> PartLine:
    named = {name: part.get(name, "–") for name in ("name", "author", "licence")}
    how = part.get("how", "")
    words = str(PART_HOW[how]) % named if how in PART_HOW else how
    source = str(part.get("source", ""))
    link = source if source.startswith("https://") else ""
    return PartLine(str(part.get("thing", "–")), words, how == "drawn", link, bool(part.get("changed")))


def _signed(c2pa: Mapping[str, Any]) -> Mark:
    signer = c2pa.get("signer") or {}
    who = signer.get("organisation") or signer.get("name") or "–"
    said = _("Signed by %(who)s as “%(kind)s”.") % {"who": who, "kind": c2pa.get("source_type", "–")}
    if stamp := c2pa.get("time_stamp"):
        when = parse_datetime(str(stamp.get("at") or ""))
        told = label_of(TIME_STAMPS, stamp.get("state", ""))
        said = f"{said} {told} {date_format(timezone.localtime(when), 'DATETIME_FORMAT') if when else ''}".strip()
    return Mark(_("Content credentials (C2PA)"), c2pa.get("state", ""), said)


def _hidden(name: Any, mark: Mapping[str, Any]) -> Mark:
    said = _("It carries the number %(payload)s.") % {"payload": mark.get("payload", "–")}
    if mark.get("read", 1) > 1:
        frames = _("Found in %(marked)s of %(read)s frames that were checked.")
        said = f"{said} {frames % {'marked': mark['marked'], 'read': mark['read']}}"
    return Mark(name, mark.get("state", "present"), said)


def score_width(score: float | None) -> float:
    """Of a bar that is full at .25, which hardly anything reaches."""
    return round(100 * min(1, max(0, (score or 0) / 0.25)), 1)


# --- What another one takes ------------------------------------------------------------------------------


def estimate_of(outputs: Collection[str]) -> Estimate:
    """CPU time as the newest of the same outputs took, or a guess; and what the plan has left. In the scope."""
    costs = _costs(outputs)
    guess = sum(GUESSED_S[kind] for kind in outputs)
    return Estimate(median(costs) if costs else guess, bool(costs), _quota_left())


def _costs(outputs: Collection[str]) -> list[float]:
    since = timezone.now() - PERIOD
    recent = Generation.objects.filter(state=Generation.State.SUCCEEDED, created_at__gte=since)
    newest = recent.order_by("-id").values_list("job_id", "outputs")[:MEASURED]
    alike = [job_id for job_id, kinds in newest if set(kinds) == set(outputs)]
    return list(Job.objects.filter(pk__in=alike).values_list("cost_cpu_s", flat=True)) if alike else []


def _quota_left() -> float | None:
    entry = quotas.summary()[QUOTA]
    limit = entry["limit"]
    if limit is None:
        return None
    return max(0, limit - (entry["used"] or 0) - (entry["reserved"] or 0))
