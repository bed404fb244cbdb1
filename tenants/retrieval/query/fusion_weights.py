"""How much each part of a query counts: by its task, corrected by the gate that serves its tenant; and the trace of it.

Weights in the request win always.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import msgspec
import numpy as np
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from ml.alignment.gating import PAIRS, PARTS, Gate, GateError, Part, Remark, inputs_of, unpack
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record as log_event
from tenants.prepared import Prepared
from tenants.retrieval.cache import async_writer
from tenants.retrieval.models import SearchTask
from tenants.retrieval.types import Query
from tenants.scope import current_tenant_id, tenant_scope
from tenants.valkey import client, tenant_key

# --- Weight profiles: the tasks of a tenant -------------------------------------------------------------

# How much each part of a query weighs before anything is known of the query itself. A few come with every
# installation, and are also what the learnt gate starts from; tenants add their own. A rule changes the weights where
# the words of the query name something.

WEIGHED_PARTS = ("text", "image", "audio", "video", "vector", "like")
MAX_TASKS, MAX_RULES, MAX_WORDS, MAX_WORD = 100, 20, 50, 60
MAX_SLUG, MAX_DESCRIPTION, MAX_WEIGHT = 50, 1_000, 1_000.0

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,49}")

Weights = dict[str, float]


@dataclass(frozen=True)
class Rule:
    """Weights that hold where the query's words contain one of `words`; what it does not name stays as it is."""

    words: tuple[str, ...]
    weights: Weights

    def found_in(self, text: str) -> str | None:
        """The first of its words in a text: at the beginning of a word, so that "nodule" finds "nodules"."""
        return next((word for word in self.words if _contains(text, word)), None)


@dataclass(frozen=True)
class Task:
    """`weights` of the parts that it names; one that it does not name weighs as much as the mean of those.

    `dynamic`: whether the gate may correct them for each query. The first rule that applies is used.
    """

    slug: str
    description: str
    weights: Weights
    rules: tuple[Rule, ...] = ()
    dynamic: bool = True

    def prior(self, parts: Sequence[str], words: str) -> tuple[Weights, str | None]:
        """The weights of these parts for a query with these words, and the word by which a rule applied."""
        for rule in self.rules:
            if (word := rule.found_in(words)) is not None:
                return _completed({**self.weights, **rule.weights}, parts), word
        return _completed(self.weights, parts), None


def _completed(weights: Weights, parts: Sequence[str]) -> Weights:
    usual = sum(weights.values()) / len(weights)
    return {part: weights.get(part, usual) for part in parts}


def _contains(text: str, word: str) -> bool:
    if not word.isascii():
        # Chinese, for one, has no spaces between words.
        return word.lower() in text.lower()
    return re.search(rf"(?<!\w){re.escape(word)}", text, re.IGNORECASE) is not None


_ALIKE = dict.fromkeys(WEIGHED_PARTS, 1.0)
#: Of the article that this platform follows, and what findings in pictures of patients are called.
_FINDINGS = ("nodule", "lesion", "mass", "fracture", "opacity", "effusion", "tumour", "tumor")

BUILT_IN: dict[str, Task] = {
    task.slug: task
    for task in (
        Task("general", gettext_noop("Every part counts the same."), _ALIKE),
        Task(
            "ecommerce",
            gettext_noop("Products: what they look like counts more than what they are called."),
            {**_ALIKE, "text": 0.3, "image": 0.6, "audio": 0.1, "video": 0.6},
        ),
        Task(
            "medical",
            gettext_noop("Diagnosis: pictures first, and more so where the words name a finding."),
            {**_ALIKE, "text": 0.4, "image": 0.6, "audio": 0.1, "video": 0.6},
            (Rule(_FINDINGS, {"text": 0.2, "image": 0.8, "video": 0.8}),),
        ),
        Task(
            "support",
            gettext_noop("Questions of customers: words and speech first."),
            {**_ALIKE, "text": 0.6, "image": 0.2, "audio": 0.6, "video": 0.2},
        ),
    )
}


def find_profile(tenant_id: uuid.UUID, slug: str) -> Task:
    """The task of this name, in no scope but a short one of its own. Raises Invalid."""
    if slug in BUILT_IN:
        return BUILT_IN[slug]
    with tenant_scope(tenant_id):
        row = SearchTask.objects.filter(slug=slug).first() if _SLUG.fullmatch(slug) else None
    if row is None:
        raise Invalid(
            _("Unknown task. Built in are %(names)s; GET /tasks lists your own, too.")
            % {"names": ", ".join(BUILT_IN)},
            pointer="/task",
        )
    return profile_of(row)


def profile_of(row: SearchTask) -> Task:
    rules = tuple(Rule(tuple(rule["when"]), rule["weights"]) for rule in row.rules)
    return Task(row.slug, row.description, row.weights, rules, row.dynamic)


# --- A tenant's own --------------------------------------------------------------------------------------


def list_tasks() -> QuerySet[SearchTask]:
    return SearchTask.objects.order_by("-id")


def get_task(slug: str) -> SearchTask:
    """Raises NotFound."""
    row = SearchTask.objects.filter(slug=slug).first() if _SLUG.fullmatch(slug) else None
    if row is None:
        raise NotFound(_("This task does not exist."))
    return row


def create_task(
    *,
    slug: str,
    weights: Mapping[str, float],
    description: str = "",
    rules: Sequence[Mapping[str, Any]] = (),
    dynamic: bool = True,
    actor: str = "",
) -> SearchTask:
    """Raises Invalid, Conflict."""
    row = SearchTask(slug=_checked_slug(slug), dynamic=dynamic, created_by=actor)
    _set(row, {"weights": weights, "description": description, "rules": rules})
    with tenant_scope(current_tenant_id()):
        if SearchTask.objects.count() >= MAX_TASKS:
            raise Conflict(_("There are %(tasks)s tasks; delete one first.") % {"tasks": MAX_TASKS})
        try:
            with transaction.atomic():
                row.save(force_insert=True)
        except IntegrityError as error:
            raise Conflict(_("There is a task of that name.")) from error
        log_event(actor=actor, verb="task.created", target=slug)
        return row


def update_task(*, slug: str, changes: Mapping[str, Any], actor: str = "") -> SearchTask:
    """Set `weights`, `description`, `rules` or `dynamic`; searches see it at once. Raises NotFound, Invalid."""
    with tenant_scope(current_tenant_id()):
        row = _locked(slug)
        _set(row, changes)
        row.save()
        log_event(actor=actor, verb="task.updated", target=slug, details={"fields": sorted(changes)})
        return row


def delete_task(*, slug: str, actor: str = "") -> None:
    """Searches that name it are refused from now on. Raises NotFound."""
    with tenant_scope(current_tenant_id()):
        _locked(slug).delete()
        log_event(actor=actor, verb="task.deleted", target=slug)


def _locked(slug: str) -> SearchTask:
    row = SearchTask.objects.select_for_update().filter(slug=slug).first()
    if row is None:
        raise NotFound(_("This task does not exist."))
    return row


# --- What may stand in one -------------------------------------------------------------------------------


def _checked_slug(slug: str) -> str:
    if not _SLUG.fullmatch(slug):
        raise Invalid(_("A slug has up to %(slug)s of a-z, 0-9 and -.") % {"slug": MAX_SLUG}, pointer="/slug")
    if slug in BUILT_IN:
        raise Conflict(_("A task of that name is built in; call yours something else."))
    return slug


def _set(row: SearchTask, changes: Mapping[str, Any]) -> None:
    if "weights" in changes:
        row.weights = _checked_weights(changes["weights"], "/weights")
    if "description" in changes:
        row.description = changes["description"]
    if "rules" in changes:
        row.rules = [_checked_rule(rule, f"/rules/{at}") for at, rule in enumerate(changes["rules"])]
    row.dynamic = changes.get("dynamic", row.dynamic)


def _checked_weights(weights: Mapping[str, float], pointer: str) -> Weights:
    if not any(weight > 0 for weight in weights.values()):
        raise Invalid(_("At least one part needs a weight above 0."), pointer=pointer)
    return {part: float(weights[part]) for part in WEIGHED_PARTS if part in weights}


def _checked_rule(rule: Mapping[str, Any], pointer: str) -> dict[str, Any]:
    words = [word.strip() for word in rule["when"]]
    if not all(words):
        raise Invalid(_("A word is empty."), pointer=f"{pointer}/when")
    return {"when": words, "weights": _checked_weights(rule["weights"], f"{pointer}/weights")}


# --- Weights of one query -------------------------------------------------------------------------------

# Which gate serves is remembered in the process for some seconds and read only for
# queries of several parts, so that all others cost nothing more.

log = logging.getLogger(__name__)

#: How long another process may go on with the gate before the one that was just trained or given up.
GATE_KEEP_S = 10.0
MOST_GATES = 1_000

_LIVE = Prepared("live_gate", ("uuid",), "SELECT id, content FROM search_gate WHERE tenant_id = $1 AND live")


@dataclass(frozen=True)
class Weighed:
    """Weights that sum to 1, and how they came about.

    `word` is that of the task's rule which applied, if one did. `factors` by which the gate multiplied each weight of
    the prior; empty where it stayed out.
    """

    weights: Weights
    task: Task
    prior: Weights
    word: str | None = None
    gate: str = ""
    factors: Weights = field(default_factory=dict)


def weigh(tenant_id: uuid.UUID, parts: Mapping[str, Part], query: Query, task: Task, words: str) -> Weighed:
    """Weights of the parts of a query with these words. Raises Invalid where none is above 0."""
    prior, word = task.prior(list(parts), words)
    given = {part: query.weights.get(part, weight) for part, weight in prior.items()}
    if sum(given.values()) <= 0:
        raise Invalid(_("At least one part of the query needs a weight above 0."), pointer="/weights")
    fixed = Weighed(_scaled(given), task, _scaled(given), word)
    if not _is_open(parts, query, task):
        return fixed
    gate = serving_gate(tenant_id)
    found = gate.weigh(parts, fixed.prior)
    return Weighed(found.weights, task, fixed.prior, word, gate.id, found.factors)


def _is_open(parts: Mapping[str, Part], query: Query, task: Task) -> bool:
    """Whether the gate has a say."""
    asked = any(query.weights.get(part) is not None for part in parts)
    return task.dynamic and not asked and sum(part in PARTS for part in parts) > 1


def _scaled(weights: Weights) -> Weights:
    total = sum(weights.values())
    return {part: weight / total for part, weight in weights.items()}


# --- Which gate serves -----------------------------------------------------------------------------------


@cache
def built_in() -> Gate:
    """The gate that ships."""
    return Gate.load()


_memo: dict[uuid.UUID, tuple[float, Gate]] = {}


def serving_gate(tenant_id: uuid.UUID) -> Gate:
    """The tenant's own gate, or the built-in one. In no scope, or the tenant's."""
    until, gate = _memo.get(tenant_id, (0.0, built_in()))
    if time.monotonic() < until:
        return gate
    gate = _read_gate(tenant_id, gate)
    if len(_memo) >= MOST_GATES:
        _memo.clear()
    _memo[tenant_id] = (time.monotonic() + GATE_KEEP_S, gate)
    return gate


def forget_gate(tenant_id: uuid.UUID) -> None:
    """Read anew which gate serves: for the process that has just changed it."""
    _memo.pop(tenant_id, None)


def _read_gate(tenant_id: uuid.UUID, known: Gate) -> Gate:
    rows = _LIVE.rows_of(tenant_id, tenant_id)
    if not rows:
        return built_in()
    gate_id, content = str(rows[0][0]), bytes(rows[0][1])
    if known.id == gate_id:
        return known
    try:
        return Gate(unpack(content), gate_id, "1")
    except GateError:
        log.exception("the gate of a tenant is damaged; the built-in one serves")
        return built_in()


# --- Why the parts of a query weigh what they do, as `explain` shows it ----------------------------------


#: What an unusually small and an unusually large value of a sign says; signs that tell people nothing are left out.
_SAYS: dict[str, tuple[str, str]] = {
    "sharpness": ("it is blurred", ""),
    "coarse_sharpness": ("it is out of focus or empty", ""),
    "noise": ("", "it is noisy"),
    "brightness": ("it is dark", "it is bright"),
    "contrast": ("it has little contrast", ""),
    "dark": ("", "most of it is black"),
    "bright": ("", "most of it is white"),
    "flat": ("", "large parts of it are empty"),
    "smear": ("", "it is smeared in one direction"),
    "entropy": ("", "it is unclear what it shows"),
    "unknown": ("", "many of its words are unknown"),
    "hearing": ("the speech was hard to understand", ""),
}
#: A factor nearer to 1 than this is no news.
NEWS = 1.15


def explained(weighed: Weighed, parts: dict[str, Part]) -> dict[str, Any]:
    """In the shape of the API."""
    return {
        "task": weighed.task.slug,
        "prior": _rounded(weighed.prior),
        "confidence": {name: _rounded(part.signs) for name, part in parts.items() if part.signs},
        "agreement": _agreement(parts),
        "gate": weighed.gate or None,
        "factors": _rounded(weighed.factors),
        "why": list(_sentences(weighed, parts)),
    }


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}


def _agreement(parts: dict[str, Part]) -> dict[str, float]:
    pairs = [(one, other) for one, other in PAIRS if one in parts and other in parts]
    return {
        f"{one} {other}": round(float(parts[one].vector @ parts[other].vector), 4) for one, other in pairs
    }


def _sentences(weighed: Weighed, parts: dict[str, Part]) -> Iterator[str]:
    yield f"Task {weighed.task.slug}: {_shares(weighed.prior)}."
    if weighed.word is not None:
        yield f"The words contain “{weighed.word}”, for which this task has weights of its own."
    if not weighed.gate:
        yield _why_fixed(weighed, parts)
        return
    remarks = built_in().remarks(parts)
    for part in PARTS:
        if part in weighed.factors:
            yield _told(part, weighed.factors[part], [one for one in remarks if one.part == part])
    yield f"So: {_shares(weighed.weights)}."


def _why_fixed(weighed: Weighed, parts: dict[str, Part]) -> str:
    if len(parts) < 2:
        return "There is one part, so there is nothing to weigh."
    if not weighed.task.dynamic:
        return "This task keeps its weights for every query."
    return "The weights are those of the request, or no two parts can be compared."


def _shares(weights: dict[str, float]) -> str:
    return ", ".join(f"{part} {weight:.2f}" for part, weight in weights.items())


def _told(part: str, factor: float, remarks: list[Remark]) -> str:
    reasons = [said for one in remarks if (said := _SAYS.get(one.sign, ("", ""))[one.high])]
    because = f": {', '.join(dict.fromkeys(reasons))}" if reasons else ""
    if 1 / NEWS < factor < NEWS:
        return f"The {part} counts as usual{because}."
    return f"The {part} counts {'more' if factor > 1 else 'less'}, by a factor of {factor:.2f}{because}."


# --- What a search leaves behind for feedback -----------------------------------------------------------

# For a day: its parts, and what it showed. Kept in Valkey by the writer that nobody waits for; lost without harm. No
# words of the query are in it, and vectors only where there are several parts to weigh. Each further page adds what it
# showed.

TRACE_KEEP_S = 24 * 3600
_HALF, _SINGLE = "<f2", "<f4"


class Trace(msgspec.Struct, array_like=True):
    """`parts` in half precision by name; `inputs` and `prior` as the gate read them. All three are empty where nothing
    could be weighed. `end`: where the next page begins."""

    task: str
    model: str
    shown: bytes
    end: int
    weights: dict[str, float] = {}
    parts: dict[str, bytes] = {}
    inputs: bytes = b""
    prior: dict[str, float] = {}


class TracedPage(msgspec.Struct, array_like=True):
    shown: bytes
    end: int


@dataclass(frozen=True)
class Traced:
    """A search as feedback needs it: the assets that it showed, in their order, and what was weighed."""

    task: str
    model: str
    shown: list[uuid.UUID]
    weights: dict[str, float] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: np.ndarray | None = None
    prior: dict[str, float] = field(default_factory=dict)


def keep_trace(
    tenant_id: uuid.UUID,
    search_id: str,
    *,
    model: str,
    weighed: Weighed,
    parts: dict[str, Part],
    shown: Iterable[uuid.UUID],
    end: int,
) -> None:
    """Keep a search with its first page."""
    trace = Trace(weighed.task.slug, model, _packed(shown), end)
    # What the gate cannot weigh leaves no trace of how it was weighed.
    if len(parts) > 1 and all(part in PARTS for part in parts):
        trace.weights, trace.prior = weighed.weights, weighed.prior
        trace.parts = {name: part.vector.astype(_HALF).tobytes() for name, part in parts.items()}
        trace.inputs = inputs_of(parts).astype(_SINGLE).tobytes()
    async_writer.put(_trace_key(tenant_id, search_id), msgspec.msgpack.encode(trace), TRACE_KEEP_S)


def keep_traced_page(
    tenant_id: uuid.UUID, search_id: str, *, start: int, shown: Iterable[uuid.UUID], end: int
) -> None:
    """Keep what a further page showed."""
    async_writer.put(
        f"{_trace_key(tenant_id, search_id)}:{start}",
        msgspec.msgpack.encode(TracedPage(_packed(shown), end)),
        TRACE_KEEP_S,
    )


def find_trace(tenant_id: uuid.UUID, search_id: uuid.UUID) -> Traced | None:
    """A search of this tenant of the last day, or None. Raises Valkey's errors."""
    raw = _read_trace(_trace_key(tenant_id, str(search_id)))
    if raw is None:
        return None
    trace = msgspec.msgpack.decode(raw, type=Trace)
    shown, end = _unpacked(trace.shown), trace.end
    while (raw := _read_trace(f"{_trace_key(tenant_id, str(search_id))}:{end}")) is not None:
        page = msgspec.msgpack.decode(raw, type=TracedPage)
        if page.end <= end:
            break
        shown, end = [*shown, *_unpacked(page.shown)], page.end
    vectors = {name: np.frombuffer(half, _HALF).astype(np.float32) for name, half in trace.parts.items()}
    inputs = np.frombuffer(trace.inputs, _SINGLE) if trace.inputs else None
    return Traced(trace.task, trace.model, shown, trace.weights, vectors, inputs, trace.prior)


def _read_trace(key: str) -> bytes | None:
    found: bytes | None = async_writer.get(key) or client().get(key)
    return found


def _packed(ids: Iterable[uuid.UUID]) -> bytes:
    return b"".join(one.bytes for one in ids)


def _unpacked(raw: bytes) -> list[uuid.UUID]:
    return [uuid.UUID(bytes=raw[start : start + 16]) for start in range(0, len(raw), 16)]


def _trace_key(tenant_id: uuid.UUID, search_id: str) -> str:
    # Under "search", so that erasing what searches showed forgets these as well.
    return tenant_key(tenant_id, "search", "trace", search_id)
