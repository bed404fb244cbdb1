"""Standing queries of audits: an audit that meets one when it is finished is an alert, as what arrives is of a search.

`{"audit": {"when": "<CEL>", "decision": ["block"], "rules": ["nudity"]}, "datasets": [...]}`: what is sent of it has to
hold. `when` is an expression of policies over the evidence, with the thresholds of the policy that decided.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from tenants.datasets import selectors
from tenants.datasets.models import Asset
from tenants.errors import Invalid
from tenants.moderation.models import Audit
from tenants.moderation.rules.decision import compile_policy
from tenants.moderation.rules.document import DECISIONS, read_document
from tenants.retrieval import standing, standing_matching
from tenants.retrieval.models import StandingQuery

FIELDS = ("when", "decision", "rules")
MAX_RULES, MAX_ID, MAX_DATASETS = 100, 100, 100
WHEN = "/rules/0/when"


def is_of_audits(query: object) -> bool:
    return isinstance(query, Mapping) and "audit" in query


def prepare(query: Mapping[str, Any]) -> standing.Prepared:
    """Check what is asked. In the tenant's scope. Raises Invalid, NotFound."""
    wanted = query["audit"]
    if unknown := [name for name in query if name not in ("audit", "datasets")]:
        raise Invalid(
            _("Beside audit only datasets can be sent, and not %(name)s.") % {"name": unknown[0]}, "/query"
        )
    if not isinstance(wanted, Mapping) or not wanted or any(name not in FIELDS for name in wanted):
        raise Invalid(_("Send at least one of when, decision and rules, and nothing else."), "/query/audit")
    if "when" in wanted:
        _check(wanted["when"])
    _require_list(wanted, "decision", DECISIONS)
    _require_list(wanted, "rules")
    datasets = query.get("datasets")
    if "datasets" in query:
        if not isinstance(datasets, list) or not 1 <= len(datasets) <= MAX_DATASETS:
            raise Invalid(_("Datasets are a list of ids."), "/query/datasets")
        for one in datasets:
            selectors.get_dataset(_id(one))
    return standing.Prepared({"audit": dict(wanted), **({"datasets": datasets} if datasets else {})})


def _id(value: object) -> uuid.UUID:
    try:
        return uuid.UUID(str(value))
    except ValueError:
        # What is no id is of nothing here.
        return uuid.UUID(int=0)


def _require_list(wanted: Mapping[str, Any], name: str, known: tuple[str, ...] = ()) -> None:
    given = wanted.get(name, [""])
    texts = isinstance(given, list) and all(isinstance(one, str) and len(one) <= MAX_ID for one in given)
    if not texts or not 1 <= len(given) <= MAX_RULES:
        raise Invalid(_("Send a list of texts."), f"/query/audit/{name}")
    if name in wanted and known and not set(given) <= set(known):
        raise Invalid(_("Decisions are %(known)s.") % {"known": ", ".join(known)}, f"/query/audit/{name}")


def _policy(when: object) -> dict[str, Any]:
    """A policy of one rule, which fires where the expression holds."""
    rule = {"id": "standing", "when": when, "then": "label", "reason": "standing", "labels": ["standing"]}
    return {"rules": [rule], "on_failure": "allow"}


def _check(when: object) -> None:
    """Raises Invalid, by the same checks as policies."""
    try:
        read_document(_policy(when))
    except Invalid as error:
        for one in error.errors:
            one["pointer"] = one["pointer"].replace(WHEN, "/query/audit/when")
        raise


def match_audit(
    audit: Audit, asset: Asset | None, evidence: Mapping[str, Any], policy: Mapping[str, Any]
) -> int:
    """Store an alert for each standing query that the audit meets; how many are new.

    In the transaction that stores the audit, which holds the asset. `policy` is the document that decided. An audit
    of what is no asset has no alert.
    """
    if asset is None:
        return 0
    rows = StandingQuery.objects.filter(of_audits=True, state=standing.State.ACTIVE)
    asked = list(rows.values_list("pk", "query"))
    thresholds = {name: policy[name] for name in ("thresholds", "off") if name in policy}
    met = [pk for pk, query in asked if _is_met(query, audit, asset, evidence, thresholds)]
    if not met:
        return 0
    locked = rows.select_for_update(no_key=True).filter(pk__in=met).order_by("pk")
    return standing_matching.tell_of_audit(list(locked), asset, audit.id)


def _is_met(
    query: Mapping[str, Any],
    audit: Audit,
    asset: Asset,
    evidence: Mapping[str, Any],
    thresholds: Mapping[str, Any],
) -> bool:
    wanted = query["audit"]
    if query.get("datasets") and str(asset.dataset_id) not in query["datasets"]:
        return False
    if "decision" in wanted and audit.decision not in wanted["decision"]:
        return False
    if "rules" in wanted and not set(wanted["rules"]) & set(audit.rules):
        return False
    if "when" not in wanted:
        return True
    policy = {**_policy(wanted["when"]), **thresholds}
    return "standing" in compile_policy(policy).decide(evidence).rules
