"""What members say of an asset as an answer to words: right or wrong.

Two members who say the same agree; what members say differently is a disagreement, until one side has two and more than
the other. From what is agreed come golden queries, which judge models, or captions, from which models learn; never both
of one query, as a model would be judged by what it was taught.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, F, Max, Min, Q, QuerySet
from django.utils.translation import gettext as _

from ml.normalization import normalize
from tenants.datasets.metadata import check_text
from tenants.datasets.models import Asset
from tenants.datasets.selectors import require_assets, visible_assets
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.services import record
from tenants.learning import golden
from tenants.learning.models import GoldenQuery, ResultLabel
from tenants.scope import current_tenant_id, tenant_scope

MAX_TEXT = golden.MAX_TEXT
#: Labels of a workspace: pages add all of them up.
MAX_LABELS = 50_000
#: Members who have to say the same.
AGREED = 2

_KEY = re.compile("[0-9a-f]{64}")
_RIGHT, _WRONG = Count("id", filter=Q(right=True)), Count("id", filter=Q(right=False))
_IS_RIGHT = Q(rights__gte=AGREED, rights__gt=F("wrongs"))
_IS_WRONG = Q(wrongs__gte=AGREED, wrongs__gt=F("rights"))


@dataclass(frozen=True)
class Standing:
    """What members said of an asset for some words; `own` is what the person who looks said."""

    rights: int = 0
    wrongs: int = 0
    own: bool | None = None

    @property
    def verdict(self) -> bool | None:
        """What is agreed; None while nothing is."""
        most = max(self.rights, self.wrongs)
        return self.rights > self.wrongs if most >= AGREED and self.rights != self.wrongs else None

    @property
    def is_disputed(self) -> bool:
        return self.verdict is None and self.rights > 0 and self.wrongs > 0


@dataclass(frozen=True)
class Labelled:
    """An asset that was labelled for a query."""

    key: str
    text: str
    asset_id: uuid.UUID
    rights: int
    wrongs: int


@dataclass(frozen=True)
class Verdict:
    """What is agreed of an asset for a query."""

    key: str
    text: str
    asset_id: uuid.UUID
    right: bool


@dataclass
class AgreedQuery:
    """Words with the assets that are agreed to be right and wrong for them, and what they are used for already."""

    key: str
    text: str
    right: list[uuid.UUID] = field(default_factory=list)
    wrong: list[uuid.UUID] = field(default_factory=list)
    is_golden: bool = False
    is_taught: bool = False


def key_of(text: str) -> str:
    """By which spellings of a query are one: its letters without case, space and width."""
    return hashlib.sha256(_plain(text).encode()).hexdigest()


def _require_key(key: str) -> None:
    if not _KEY.fullmatch(key):
        raise NotFound(_("Nothing was labelled for this query."))


def _plain(text: str) -> str:
    return " ".join(normalize("NFKC", text).casefold().split())


# --- Writing ---------------------------------------------------------------------------------------------


def label_result(*, text: str, asset_id: uuid.UUID, right: bool, actor: str) -> ResultLabel:
    """Store what a member says; what they said of it before gives way.

    Raises NotFound for an asset that is not there, Invalid, and Conflict where there are as many as may be.
    """
    check_text(text, "/text")
    shown = text.strip()
    if not _plain(shown) or len(shown) > MAX_TEXT:
        message = _("The words of a query have 1 to %(text)s characters.") % {"text": MAX_TEXT}
        raise Invalid(message, pointer="/text")
    with tenant_scope(current_tenant_id()):
        require_assets([asset_id])
        about = {"key": key_of(shown), "asset_id": asset_id, "created_by": actor}
        if ResultLabel.objects.filter(**about).update(right=right):
            return ResultLabel.objects.get(**about)
        if ResultLabel.objects.count() >= MAX_LABELS:
            raise Conflict(
                _("There are %(labels)s labels already; delete some first.") % {"labels": MAX_LABELS}
            )
        row, _is_new = ResultLabel.objects.update_or_create(
            **about, defaults={"right": right}, create_defaults={"right": right, "text": shown}
        )
        return row


def take_back(*, text: str, asset_id: uuid.UUID, actor: str) -> None:
    """What a member said of it is gone; nothing happens where they said nothing."""
    check_text(text, "/text")
    with tenant_scope(current_tenant_id()):
        ResultLabel.objects.filter(key=key_of(text), asset_id=asset_id, created_by=actor).delete()


def delete_query(*, key: str, actor: str) -> None:
    """Delete all labels of a query. Raises NotFound."""
    _require_key(key)
    with tenant_scope(current_tenant_id()):
        count, _by_kind = ResultLabel.objects.filter(key=key).delete()
        if not count:
            raise NotFound(_("Nothing was labelled for this query."))
        record(actor=actor, verb="result_labels.deleted", target=key, details={"labels": count})


def make_golden(*, key: str, actor: str) -> GoldenQuery:
    """A golden query of what is agreed to be right for a query. Raises NotFound, and Conflict where it is one already,
    or where models learn from it."""
    with tenant_scope(current_tenant_id()):
        query = agreed_query(key)
        if query.is_golden:
            raise Conflict(_("It is a golden query already."))
        if query.is_taught:
            raise Conflict(
                _(
                    "Its words are captions of right answers: a model would be evaluated on what it was trained on."
                )
            )
        return golden.add_golden_query(
            text=query.text, relevant=query.right[: golden.MAX_ANSWERS], actor=actor
        )


# --- Reading, in the tenant's scope ----------------------------------------------------------------------


def standings_of(text: str, asset_ids: Sequence[uuid.UUID], actor: str) -> dict[uuid.UUID, Standing]:
    """By asset, of those that somebody labelled for these words."""
    if not text.strip() or not asset_ids:
        return {}
    said: dict[uuid.UUID, dict[str, bool]] = defaultdict(dict)
    rows = ResultLabel.objects.filter(key=key_of(text), asset_id__in=asset_ids)
    for asset_id, who, right in rows.values_list("asset_id", "created_by", "right"):
        said[asset_id][who] = right
    return {
        asset_id: Standing(sum(by.values()), len(by) - sum(by.values()), by.get(actor))
        for asset_id, by in said.items()
    }


def _added_up() -> QuerySet[Any, dict[str, Any]]:
    rows = ResultLabel.objects.order_by().values("key", "asset_id")
    return rows.annotate(rights=_RIGHT, wrongs=_WRONG, newest=Max("created_at"), said=Min("text"))


def disputed() -> list[Labelled]:
    """What members say differently, newest first."""
    rows = _added_up().filter(rights__gt=0, wrongs__gt=0).exclude(_IS_RIGHT).exclude(_IS_WRONG)
    return _labelled(rows)


def waiting_for(actor: str) -> list[Labelled]:
    """What one side alone said, too few of them, and not this person; newest first."""
    mine = Count("id", filter=Q(created_by=actor))
    rows = _added_up().annotate(mine=mine).filter(Q(rights=0) | Q(wrongs=0), mine=0)
    return _labelled(rows.exclude(_IS_RIGHT).exclude(_IS_WRONG))


def _labelled(rows: QuerySet[Any, dict[str, Any]]) -> list[Labelled]:
    found = rows.order_by("-newest", "key", "asset_id")
    return [Labelled(one["key"], one["said"], one["asset_id"], one["rights"], one["wrongs"]) for one in found]


def count_verdicts() -> int:
    """How many results are agreed to be right or wrong."""
    return _added_up().filter(_IS_RIGHT | _IS_WRONG).count()


def verdicts(most: int) -> list[Verdict]:
    """What is agreed, the newest `most` of it."""
    found = _added_up().filter(_IS_RIGHT | _IS_WRONG).order_by("-newest", "key", "asset_id")[:most]
    return [Verdict(one["key"], one["said"], one["asset_id"], one["rights"] > one["wrongs"]) for one in found]


def agreed_queries() -> list[AgreedQuery]:
    """Queries with at least one right answer that is agreed, the one labelled last first."""
    return _agreed(_added_up())


def agreed_query(key: str) -> AgreedQuery:
    """Raises NotFound."""
    _require_key(key)
    found = _agreed(_added_up().filter(key=key))
    if not found:
        raise NotFound(_("No right answers are agreed for this query."))
    return found[0]


def _agreed(rows: QuerySet[Any, dict[str, Any]]) -> list[AgreedQuery]:
    found: dict[str, AgreedQuery] = {}
    for one in rows.filter(_IS_RIGHT | _IS_WRONG).order_by("-newest", "key", "asset_id"):
        query = found.setdefault(one["key"], AgreedQuery(one["key"], one["said"]))
        (query.right if one["rights"] > one["wrongs"] else query.wrong).append(one["asset_id"])
    queries = [query for query in found.values() if query.right]
    _mark_used(queries)
    return queries


def _mark_used(queries: Sequence[AgreedQuery]) -> None:
    judging = {key_of(text) for text in GoldenQuery.objects.exclude(text="").values_list("text", flat=True)}
    captions = _captions_of(asset_id for query in queries for asset_id in query.right)
    for query in queries:
        query.is_golden = query.key in judging
        query.is_taught = any(_plain(query.text) in captions.get(one, ()) for one in query.right)


def _captions_of(asset_ids: Iterable[uuid.UUID]) -> Mapping[uuid.UUID, set[str]]:
    rows = Asset.objects.filter(pk__in=set(asset_ids)).only("id", "caption", "more_captions")
    return {row.pk: {_plain(caption) for caption in row.captions} for row in rows}


def to_be_taught(query: AgreedQuery) -> list[Asset]:
    """Pictures that are agreed to be right for a query and do not have its words as a caption. Raises Conflict where it
    judges models."""
    if query.is_golden:
        raise Conflict(
            _("It is a golden query: a model trained on it would be evaluated on what it was trained on.")
        )
    pictures = visible_assets().filter(pk__in=query.right, modality=Asset.Modality.IMAGE)
    wanted = _plain(query.text)
    return [one for one in pictures if wanted not in {_plain(caption) for caption in one.captions}]
