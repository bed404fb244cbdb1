"""A policy's thresholds from what reviewers decided: proposed as a new version, by command, by schedule or in a job.

For each category whose flag a rule sends to people, the scores of decided items are compared with what was decided
(`ml.recalibration`). What is accepted becomes one new version of the policy, in force nowhere unless that was asked for
as well: what is blocked changes only where somebody said so. A run that is killed has written nothing, and one on the
same decisions proposes the same version.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ml.auditing import CATEGORIES
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record as log_event
from tenants.jobs import services as jobs
from tenants.jobs.kinds import job
from tenants.jobs.models import Job
from tenants.moderation.expressions.compiler import compile_expression
from tenants.moderation.expressions.syntax import ExpressionError
from tenants.moderation.models import PolicyActivation, PolicyVersion, Review
from tenants.moderation.policies.services import (
    ENFORCE,
    SHADOW,
    activate,
    add_version,
    enforcing_row,
    lock_activations,
    newest,
)
from tenants.moderation.reviews.cases import ALLOW, Case, strongest
from tenants.moderation.reviews.figures import decided_evidence
from tenants.moderation.rules.document import MOST_LOST, REVIEW, THRESHOLD
from tenants.scope import current_tenant_id, tenant_scope

if TYPE_CHECKING:
    from ml.recalibration import Recalibrated

JOB = "recalibrate_policy"
#: Decided items of a category that are looked at, the newest.
MOST = 20_000
#: Letters of the first words by which texts count as the same, and how many it takes.
WORDS, LEAST_LETTERS = 300, 12
#: Two pictures whose PDQ hashes differ in no more bits are copies of each other.
NEAR_BITS = 31
#: What a category's flag depends on, where the threshold changes.
BY_THRESHOLD = ("flagged", "severity", "threshold")
NONE = "none"
ACTIVATIONS = (NONE, SHADOW, ENFORCE)
SCHEDULE = "schedule"


@dataclass(frozen=True)
class Wanted:
    """`lose`: the share of confirmed flags that higher thresholds may lose, None for the usual; `activate`: what
    becomes of the new version (none, shadow or enforce)."""

    policy_id: uuid.UUID
    lose: float | None = None
    activate: str = NONE


# --- What was decided ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """A score of one item and whether people confirmed it. `detector`: its name and version; `suggested`: its own
    threshold; `keys`: what tells copies of the item."""

    score: float
    violating: bool
    detector: tuple[str, str]
    suggested: float | None
    keys: tuple[str, ...]
    pdq: str


@dataclass
class _Category:
    """`rules` that send its flag to people and depend on no other category; the pairs by item, the oldest first."""

    rules: frozenset[str]
    pairs: dict[uuid.UUID, _Pair] = field(default_factory=dict)

    def add(self, item: uuid.UUID, pair: _Pair) -> None:
        # The newest audit of an item counts, and goes to the end.
        self.pairs.pop(item, None)
        self.pairs[item] = pair
        if len(self.pairs) > MOST:
            del self.pairs[next(iter(self.pairs))]


def _categories(document: Mapping[str, Any]) -> dict[str, _Category]:
    """By name, those whose threshold makes a difference to what people are asked."""
    rules: dict[str, set[str]] = {}
    for rule in document["rules"]:
        if rule["then"] != REVIEW:
            continue
        try:
            paths = compile_expression(rule["when"]).inspection.paths
        except ExpressionError:
            continue
        read = {path[1] for path in paths if len(path) > 1 and path[0] == "categories"}
        depends = any(path[0] == "categories" and path[-1] in BY_THRESHOLD for path in paths)
        if len(read) == 1 and depends:
            rules.setdefault(read.pop(), set()).add(rule["id"])
    off = document.get("off", ())
    return {
        name: _Category(frozenset(rules[name])) for name in CATEGORIES if name in rules and name not in off
    }


def _read(tenant_id: uuid.UUID, categories: Mapping[str, _Category]) -> None:
    """Fill the pairs, in batches of short scopes."""
    for case, document in decided_evidence(tenant_id):
        for name, category in categories.items():
            answer = _answer(case, category.rules)
            pair = None if answer is None else _pair(case, document, name, answer)
            if pair is not None:
                category.add(case.item, pair)


def _answer(case: Case, rules: frozenset[str]) -> bool | None:
    """Whether people confirmed these rules' flags; None where they did not say. An appeal that changed what the item
    stood at says it anew."""
    counted = [outcome for outcome in case.counted() if outcome.rule in rules]
    if not counted:
        return None
    appeals = [outcome for outcome in case.live() if outcome.kind == Review.Kind.APPEAL]
    changed = [outcome for outcome in appeals if outcome.decision != outcome.before]
    return strongest(outcome.decision for outcome in changed[-1:] or counted) != ALLOW


def _pair(case: Case, document: Mapping[str, Any], name: str, violating: bool) -> _Pair | None:
    found = (document.get("categories") or {}).get(name) or {}
    score, detector = found.get("score"), str(found.get("detector") or "")
    if found.get("state") != "examined" or not _is_share(score):
        return None
    named = [part for part in document.get("detectors") or () if part.get("name") == detector]
    suggested = found.get("suggested_threshold")
    words = " ".join(str(part.get("text") or "") for part in document.get("words") or ())[:WORDS]
    letters = "".join(letter for letter in words.casefold() if letter.isalpha())
    keys = [f"file {case.audit.sha256 or case.item}"]
    if len(letters) >= LEAST_LETTERS:
        keys.append(f"words {letters}")
    return _Pair(
        float(score),
        violating,
        (detector, str(named[0].get("version")) if named else ""),
        float(suggested) if _is_share(suggested) else None,
        tuple(keys),
        str((document.get("fingerprints") or {}).get("pdq") or ""),
    )


def _is_share(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


# --- What becomes of it ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Compared:
    """A category: the `rules` that send its flag to people, the `detector` and its version ("" where nothing was
    decided), and how many decisions were about scores of another version, which mean something else."""

    rules: list[str]
    detector: str
    left_out: int
    found: Recalibrated


@dataclass(frozen=True)
class Report:
    """`version`: the new one, None where nothing is accepted; `activated`: none, shadow or enforce."""

    policy: str
    name: str
    from_version: int
    categories: dict[str, Compared]
    version: int | None = None
    activated: str = NONE


def recalibrate(tenant_id: uuid.UUID, wanted: Wanted, *, actor: str = "", dry: bool = False) -> Report:
    """Compare, and propose; in no scope. `dry`: only compare.

    Raises NotFound, Invalid, and Conflict where another version is in force meanwhile.
    """
    base, report = compare(tenant_id, wanted)
    if dry:
        return report
    with tenant_scope(tenant_id):
        return propose(base, wanted, report, actor=actor)


def compare(tenant_id: uuid.UUID, wanted: Wanted) -> tuple[PolicyVersion, Report]:
    """The version that serves, and the report without a new one. In no scope."""
    _check(wanted)
    with tenant_scope(tenant_id):
        base = _serving(wanted.policy_id)
        name = base.policy.name
    categories = _categories(base.document)
    if not categories:
        raise Conflict(
            _(
                "No rule of this policy sends the flag of a single category to people, so there is nothing to adjust."
            )
        )
    _read(tenant_id, categories)
    found = {name: _compared(base.document, name, one, wanted.lose) for name, one in categories.items()}
    report = Report(str(wanted.policy_id), name, base.number, found)
    return base, report


def _check(wanted: Wanted) -> None:
    if wanted.activate not in ACTIVATIONS:
        raise Invalid(f"activate is one of {', '.join(ACTIVATIONS)}.", pointer="/activate")
    if wanted.lose is not None and not 0 <= wanted.lose <= MOST_LOST:
        raise Invalid(f"lose is a number from 0 to {MOST_LOST:g}.", pointer="/lose")


def _serving(policy_id: uuid.UUID) -> PolicyVersion:
    """The enforced version of the policy, or its newest one. Raises NotFound."""
    row = newest().get(policy_id)
    rows = PolicyVersion.objects.filter(policy_id=policy_id).select_related("policy")
    chosen = rows.filter(pk=row.enforced_id) if row is not None and row.enforced_id else rows
    version = chosen.order_by("-number").first()
    if version is None:
        raise NotFound(_("This policy does not exist."))
    return version


def _compared(document: Mapping[str, Any], name: str, category: _Category, lose: float | None) -> Compared:
    from ml import recalibration

    pairs = list(category.pairs.values())
    detector = pairs[-1].detector if pairs else ("", "")
    kept = [pair for pair in pairs if pair.detector == detector]
    suggested = kept[-1].suggested if kept else None
    threshold = document["thresholds"].get(name, THRESHOLD if suggested is None else suggested)
    found = recalibration.recalibrate(
        np.array([pair.score for pair in kept], float),
        np.array([pair.violating for pair in kept], bool),
        _groups(kept),
        threshold=threshold,
        lose=recalibration.LOSE if lose is None else lose,
    )
    named = "@".join(detector) if kept else ""
    return Compared(sorted(category.rules), named, len(pairs) - len(kept), found)


def _groups(pairs: list[_Pair]) -> np.ndarray:
    from ml.classification import groups_by_keys

    keys = [list(pair.keys) for pair in pairs]
    hashed = [(place, pair.pdq) for place, pair in enumerate(pairs) if len(pair.pdq) == 64]
    if hashed:
        bits = np.unpackbits(np.array([list(bytes.fromhex(pdq)) for _, pdq in hashed], np.uint8), axis=1)
        signs = bits.astype(np.float32) * 2 - 1
        for at, (place, _) in enumerate(hashed):
            near = np.flatnonzero(signs[: at + 1] @ signs[at] >= signs.shape[1] - 2 * NEAR_BITS)
            keys[place] += [f"pdq {other}" for other in near]
    return groups_by_keys(keys)


def propose(base: PolicyVersion, wanted: Wanted, report: Report, *, actor: str = "") -> Report:
    """Make a version of the accepted thresholds, and put it in force where that is asked for. In the tenant's scope.

    Raises Conflict where another version serves now than the one that was compared.
    """
    moved = {
        name: one.found.threshold.after
        for name, one in report.categories.items()
        if one.found.threshold.after != one.found.threshold.before
    }
    if not moved:
        return report
    lock_activations()
    if _serving(base.policy_id).pk != base.pk:
        raise Conflict(_("Another version of this policy was activated in the meantime. Run it again."))
    document = {**base.document, "thresholds": {**base.document["thresholds"], **moved}}
    version, _new = add_version(policy_id=base.policy_id, document=document, actor=actor)
    report = replace(report, version=version.number)
    if wanted.activate != NONE and _may_activate(base, wanted.activate):
        activate(policy_id=base.policy_id, number=version.number, mode=wanted.activate, actor=actor)
        report = replace(report, activated=wanted.activate)
    details = {"from": base.number, "version": version.number, "activated": report.activated}
    log_event(
        actor=actor, verb="policy.recalibrated", target=str(base.policy_id), details={**details, **moved}
    )
    return report


def _may_activate(base: PolicyVersion, mode: str) -> bool:
    """A version takes over only from one that is enforced for all: a share, or a policy out of force, is somebody's
    trial."""
    row: PolicyActivation | None = newest().get(base.policy_id)
    return mode == SHADOW or (row is not None and row.enforced_id == base.pk and row.ratio >= 1.0)


# --- The job, and the schedule ---------------------------------------------------------------------------


def start_recalibration(wanted: Wanted, *, actor: str = "") -> Job:
    """Queue the job. In the tenant's scope. Raises Invalid, NotFound, Conflict while one of the policy waits."""
    _check(wanted)
    with tenant_scope(current_tenant_id()):
        _serving(wanted.policy_id)
        of_policy = Job.objects.filter(kind=JOB, arguments__policy=str(wanted.policy_id))
        if of_policy.filter(jobs.UNFINISHED).exists():
            raise Conflict(_("The thresholds of this policy are being compared already."))
        arguments = {
            "policy": str(wanted.policy_id),
            "lose": wanted.lose,
            "activate": wanted.activate,
            "actor": actor,
        }
        return jobs.enqueue(kind=JOB, arguments=arguments, reserve={})


@job(JOB, queue="default", label=gettext_lazy("Adjust thresholds to reviewers’ decisions"), kept=True)
def recalibrate_policy(claimed: jobs.Claim) -> None:
    """Compare outside of any transaction, and propose in the one that ends the job. Raises LeaseLost, Conflict."""
    begun = time.thread_time()
    given = claimed.arguments
    wanted = Wanted(uuid.UUID(given["policy"]), given["lose"], given["activate"])
    base, report = compare(claimed.tenant_id, wanted)
    with tenant_scope(claimed.tenant_id):
        jobs.held(claimed)
        result = propose(base, wanted, report, actor=given["actor"])
        jobs.succeed(claimed, result=asdict(result), cpu_s=time.thread_time() - begun, gpu_s=0, used={})


def consider() -> bool:
    """Queue the comparison of the policy in force where its document asks for it and it is due; whether it was. In the
    tenant's scope."""
    row = enforcing_row(newest())
    if row is None or row.enforced_id is None:
        return False
    document = PolicyVersion.objects.values_list("document", flat=True).get(pk=row.enforced_id)
    asked = document.get("recalibrate")
    if not asked:
        return False
    of_policy = Job.objects.filter(kind=JOB, arguments__policy=str(row.policy_id))
    since = timezone.now() - dt.timedelta(days=asked["every_days"])
    if of_policy.filter(queued_at__gt=since).exists() or of_policy.filter(jobs.UNFINISHED).exists():
        return False
    start_recalibration(Wanted(row.policy_id, asked["lose"], asked["activate"]), actor=SCHEDULE)
    return True
