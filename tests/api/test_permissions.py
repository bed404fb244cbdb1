"""Who may call what: one table, every route of the API in it."""

from __future__ import annotations

import datetime as dt
import io
import re
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.utils import timezone

from config.self_service import SelfService
from ml.classification import Head
from ml.documents import Block, Document
from tenants.accounts import keys
from tenants.accounts.models import (
    CustomRole,
    Invitation,
    KeyDigest,
    Membership,
    OperatorRequest,
    PlanRequest,
    QuotaCounter,
    SignOnConnection,
    SignOnDomain,
    Tenant,
    UsageDay,
    User,
)
from tenants.accounts.permissions import ROLES, SCOPES, Actor
from tenants.accounts.services import set_role
from tenants.datasets import documents, resumable, storage
from tenants.datasets.models import (
    Asset,
    Blob,
    LegalHold,
    ResumableUpload,
    StreamDeadLetter,
    StreamSource,
)
from tenants.datasets.services import create_dataset
from tenants.events import endpoints, replays
from tenants.events.models import AuditEvent, Erasure, Export
from tenants.generation import services as generation
from tenants.generation.validation import GenerationSpec
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.learning import dataset_versions, golden
from tenants.learning.classifiers import services as classifiers
from tenants.learning.models import Classifier, ClassifierVersion, LearntModel
from tenants.moderation import known_content, policies, reviews
from tenants.moderation.models import Audit, AuditPicture, Evidence, Outcome, Review
from tenants.moderation.reviews import bulk
from tenants.people import invitations, roles
from tenants.people.models import ProvisioningToken
from tenants.people.provisioning import tokens as provisioning
from tenants.people.sign_on import connections, domains
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.streams import sources
from tenants.pipeline.transfer import exports, imports
from tenants.retrieval import maps, model_routing, saved, standing
from tenants.retrieval.models import StandingAlert, StandingQuery, VectorClock
from tenants.retrieval.query import fusion_weights
from tenants.scope import TenantModel, tenant_scope
from tests.api.conftest import Api, picture, refused
from tests.conftest import Party
from tests.tenants.learning.world import new_model, with_files
from tests.tenants.policy_world import evidence

pytestmark = pytest.mark.guard

VECTOR = [1.0] * 256
TUS = {"Tus-Resumable": "1.0.0"}


@dataclass(frozen=True)
class Row:
    """One route: the scope that it needs (None: any key), what is sent, what a success answers."""

    method: str
    route: str
    scope: str | None
    status: int
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    # An id that is not in the route, whose making makes room for another one.
    room: tuple[str, ...] = ()
    # A second scope that it needs.
    also: str | None = None

    def path(self, world: dict[str, str]) -> str:
        return "/" + self.route.format(**world)

    @property
    def names(self) -> list[str]:
        """Of the ids in it, and of what makes room for a success."""
        return [*re.findall(r"{(\w+)}", self.route), *self.room]

    def lacks(self, scopes: Collection[str]) -> list[str]:
        """What it needs beyond these scopes."""
        return [one for one in (self.scope, self.also) if one is not None and one not in scopes]


def form(content: str) -> tuple[bytes, dict[str, str]]:
    """A form with one file, as raw bytes and the header that goes with them."""
    body = (
        f'--b\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n{content}\r\n--b--\r\n'
    )
    return body.encode(), {"Content-Type": "multipart/form-data; boundary=b"}


LINES = (b'{"id": "a", "text": "x"}\n', {"Content-Type": "application/x-ndjson"})
SOURCE = {"name": "new", "kind": "redis", "url": "rediss://broker.example", "topic": "t"}
BULK = {"filter": {"rule": "r"}, "decision": "allow", "reason": "x"}
CONNECTION = {"protocol": "oidc", "name": "new", "issuer": "https://login.example", "client_id": "c"}
TABLE = (
    Row("GET", "me", None, 200),
    Row("GET", "usage", "read", 200),
    Row("GET", "keys", "admin", 200),
    # A key makes and rotates only keys whose scopes it has.
    Row("POST", "keys", "admin", 201, {"name": "new", "scopes": ["read"]}, also="read"),
    Row("PATCH", "keys/{key_id}", "admin", 200, {"rate_per_minute": 600}),
    Row("DELETE", "keys/{key_id}", "admin", 204),
    Row("PATCH", "keys/{key_id}", "admin", 200, {"rate_per_minute": 600}),
    Row("POST", "keys/{key_id}/rotate", "admin", 201, {"overlap_s": 60}, also="read"),
    Row("GET", "security", "admin", 200),
    Row("PATCH", "security", "admin", 200, {"session_idle_minutes": 30}),
    Row("GET", "members", "admin", 200),
    Row("PATCH", "members/{member_id}", "admin", 200, {"role": "editor"}),
    Row("DELETE", "members/{member_id}", "admin", 204),
    Row("GET", "invitations", "admin", 200),
    Row("POST", "invitations", "admin", 201, {"email": "ann@people.example", "role": "viewer"}),
    Row("DELETE", "invitations/{invitation_id}", "admin", 204),
    Row("POST", "invitations/{invitation_id}/link", "admin", 201),
    Row("GET", "operator-requests", "admin", 200),
    # The keys of this table have no maker; one that an owner made answers (tests/backoffice/test_approvals.py).
    Row("PATCH", "operator-requests/{request_id}", "admin", 403, {"answer": "deny"}),
    Row("GET", "offered-plans", "admin", 200),
    Row("GET", "plan-requests", "admin", 200),
    # For the same reason; members' keys ask in tests/api/test_people.py.
    Row("POST", "plan-requests", "admin", 403, {"note": "A larger catalogue."}),
    Row("POST", "plan-requests/{plan_request_id}/withdraw", "admin", 200),
    Row("GET", "roles", "admin", 200),
    Row("POST", "roles", "admin", 201, {"name": "new-role", "scopes": ["read"]}, room=("name",)),
    Row("PATCH", "roles/{name}", "admin", 200, {"scopes": ["read", "write"]}),
    Row("DELETE", "roles/{name}", "admin", 204),
    Row("GET", "provisioning", "admin", 200),
    Row("PUT", "provisioning", "admin", 200, {"default_role": "viewer", "group_roles": []}),
    Row("GET", "provisioning/tokens", "admin", 200),
    Row("POST", "provisioning/tokens", "admin", 201, {"name": "idp"}, room=("prefix",)),
    Row("DELETE", "provisioning/tokens/{prefix}", "admin", 204),
    Row("POST", "provisioning/tokens/{prefix}/rotate", "admin", 201, {"overlap_s": 0}),
    Row("GET", "sso/connections", "admin", 200),
    Row("POST", "sso/connections", "admin", 201, CONNECTION, room=("connection_id",)),
    Row("GET", "sso/connections/{connection_id}", "admin", 200),
    Row("PATCH", "sso/connections/{connection_id}", "admin", 200, {"enabled": True}),
    Row("DELETE", "sso/connections/{connection_id}", "admin", 204),
    Row("GET", "sso/domains", "admin", 200),
    Row("POST", "sso/domains", "admin", 201, {"domain": "new.example"}, room=("domain_id",)),
    Row("GET", "sso/domains/{domain_id}", "admin", 200),
    Row("PATCH", "sso/domains/{domain_id}", "admin", 200, {"connection": None}),
    Row("DELETE", "sso/domains/{domain_id}", "admin", 204),
    # It was proved before, so that no name server is asked.
    Row("POST", "sso/domains/{domain_id}/verify", "admin", 200),
    Row("GET", "origins", "admin", 200),
    Row("PUT", "origins", "admin", 200, {"origins": ["https://shop.example"]}),
    Row("GET", "datasets", "read", 200),
    Row("POST", "datasets", "write", 201, {"name": "new"}),
    Row("GET", "datasets/{dataset_id}", "read", 200),
    Row("PATCH", "datasets/{dataset_id}", "write", 200, {"description": "new"}),
    Row("DELETE", "datasets/{dataset_id}", "write", 202),
    Row("GET", "datasets/{dataset_id}/assets", "read", 200),
    Row("POST", "datasets/{dataset_id}/assets", "write", 202, {"text": "new"}),
    Row("GET", "assets/{asset_id}/transcript", "read", 200),
    Row("GET", "assets/{document_id}/comparison/{later_id}", "read", 200),
    Row("GET", "assets/{document_id}/alike-clauses", "read", 200),
    Row("POST", "datasets/{dataset_id}/stream", "write", 200, *LINES),
    Row("POST", "datasets/{dataset_id}/tags", "write", 200, {"assets": ["none"], "add": ["new"]}),
    Row("POST", "datasets/{dataset_id}/merges", "write", 202, {}),
    Row("GET", "datasets/{dataset_id}/health", "read", 200),
    Row("POST", "datasets/{dataset_id}/health", "write", 202),
    Row("GET", "datasets/{dataset_id}/versions", "read", 200),
    Row("POST", "datasets/{dataset_id}/versions", "write", 201, {"name": "new"}),
    Row("GET", "datasets/{dataset_id}/versions/{version_id}", "read", 200),
    Row("DELETE", "datasets/{dataset_id}/versions/{version_id}", "write", 204),
    Row("GET", "datasets/{dataset_id}/versions/{version_id}/assets", "read", 200),
    Row("GET", "datasets/{dataset_id}/versions/{version_id}/compare?with={version_id}", "read", 200),
    Row("GET", "datasets/{dataset_id}/imports", "read", 200),
    Row("POST", "datasets/{dataset_id}/imports", "write", 202, *form("text\nnew\n")),
    Row("GET", "imports/{import_id}", "read", 200),
    Row("DELETE", "imports/{import_id}", "write", 204),
    Row("POST", "imports/{import_id}/preview", "write", 200, {}),
    Row("POST", "imports/{import_id}/start", "write", 202, {}),
    Row("GET", "imports/{import_id}/rows", "read", 200),
    Row("GET", "imports/{import_id}/receipt", "read", 200),
    Row("OPTIONS", "uploads", None, 204),
    Row("POST", "uploads", "write", 201, headers={**TUS, "Upload-Length": "4"}, room=("upload_id",)),
    Row("OPTIONS", "uploads/{upload_id}", None, 204),
    Row(
        "PATCH",
        "uploads/{upload_id}",
        "write",
        204,
        b"four",
        {**TUS, "Content-Type": "application/offset+octet-stream", "Upload-Offset": "0"},
    ),
    Row("DELETE", "uploads/{upload_id}", "write", 204, headers=TUS),
    Row("GET", "assets/{asset_id}", "read", 200),
    Row("PATCH", "assets/{asset_id}", "write", 200, {"metadata": {"new": 1}}),
    Row("DELETE", "assets/{asset_id}", "write", 204),
    Row("GET", "assets/{asset_id}/content", "read", 200),
    Row("GET", "assets/{asset_id}/thumbnail", "read", 200),
    Row("GET", "assets/{document_id}/pages/{page}", "read", 200),
    Row("GET", "assets/{document_id}/document", "read", 200),
    Row("POST", "search", "search", 200, {"vector": VECTOR}),
    # Without the handshake of a WebSocket.
    Row("GET", "live", "search", 426),
    Row("POST", "live", "search", 201, {"purpose": "transcribe"}),
    Row("GET", "erasures", "admin", 200),
    Row("POST", "erasures", "admin", 202, {"external_ids": ["nobody"]}),
    Row("GET", "erasures/{erasure_id}", "admin", 200),
    Row("GET", "data-processing", "admin", 200),
    Row("GET", "legal-holds", "admin", 200),
    # One that stands would keep what other rows delete.
    Row("POST", "legal-holds", "admin", 404, {"reason": "x", "dataset": "none"}),
    Row("GET", "legal-holds/{hold_id}", "admin", 200),
    Row("GET", "exports", "admin", 200),
    Row("POST", "exports", "admin", 202, {}, room=("export_id",)),
    Row("GET", "exports/{export_id}", "admin", 200),
    Row("GET", "exports/{export_id}/content", "admin", 200),
    Row("GET", "tasks", "read", 200),
    Row("POST", "tasks", "write", 201, {"slug": "new", "weights": {"text": 1}}),
    Row("GET", "tasks/{slug}", "read", 200),
    Row("PATCH", "tasks/{slug}", "write", 200, {"weights": {"text": 2}}),
    Row("DELETE", "tasks/{slug}", "write", 204),
    Row("POST", "feedback", "search", 404, {"search_id": "none", "asset": "none", "kind": "click"}),
    Row("GET", "gate", "read", 200),
    Row("DELETE", "gate", "train", 204),
    # Nothing was searched yet, so there is nothing to learn from.
    Row("POST", "gate/train", "train", 409),
    Row("POST", "finetunes", "train", 404, {"dataset": "none"}),
    Row("GET", "models", "read", 200),
    Row("GET", "models/{model_id}", "read", 200),
    Row("DELETE", "models/{model_id}", "train", 204),
    Row("POST", "models/{model_id}/promote", "train", 202, {}),
    Row("POST", "models/{live_id}/rollback", "train", 200),
    Row("GET", "maps", "read", 200),
    Row("POST", "maps", "write", 201, {"name": "new"}, room=("map_id",)),
    Row("POST", "maps/similarity", "search", 404, {"assets": ["none", "never"]}),
    Row("GET", "maps/{map_id}", "read", 200),
    Row("DELETE", "maps/{map_id}", "write", 204),
    Row("GET", "maps/{map_id}/points", "read", 200),
    Row("GET", "generations", "read", 200),
    Row("POST", "generations", "generate", 202, {"prompt": "a cat"}),
    Row("GET", "generations/disclosure", "read", 200),
    Row("PATCH", "generations/disclosure", "admin", 200, {"notice": True}),
    Row("GET", "generations/{generation_id}", "read", 200),
    Row("DELETE", "generations/{generation_id}", "generate", 204),
    Row("DELETE", "generations/{generation_id}?assets=true", "generate", 204, also="write"),
    Row("GET", "generations/{generation_id}/preview", "read", 204),
    Row("POST", "generations/{generation_id}/cancel", "generate", 200),
    Row("POST", "generations/{stopped_id}/retry", "generate", 202),
    Row("GET", "classifiers", "read", 200),
    Row("POST", "classifiers", "train", 201, {"name": "new"}),
    Row("GET", "classifiers/{classifier_id}", "read", 200),
    Row("DELETE", "classifiers/{classifier_id}", "train", 204),
    Row("GET", "classifiers/{classifier_id}/examples", "read", 200),
    Row(
        "POST",
        "classifiers/{classifier_id}/examples",
        "train",
        404,
        {"examples": [{"asset": "none", "label": True}]},
    ),
    Row("POST", "classifiers/{classifier_id}/train", "train", 202, {}),
    Row("GET", "classifiers/{classifier_id}/suggestions", "read", 200),
    Row("POST", "classifiers/{classifier_id}/versions/{version}/promote", "train", 202),
    Row("GET", "saved-searches", "search", 200),
    Row("POST", "saved-searches", "search", 201, {"name": "new", "query": {"text": "kettle"}}),
    Row("GET", "saved-searches/{saved_id}", "search", 200),
    # The keys of this table neither saved it nor were made by an owner (tests/api/test_saved_searches.py).
    Row("PATCH", "saved-searches/{saved_id}", "search", 403, {"name": "other"}),
    Row("DELETE", "saved-searches/{saved_id}", "search", 403),
    Row("GET", "standing-queries", "search", 200),
    Row("POST", "standing-queries", "search", 201, {"name": "new", "query": {"filter": {"a": 1}}}),
    Row("GET", "standing-queries/{standing_id}", "search", 200),
    Row("PATCH", "standing-queries/{standing_id}", "search", 403, {"name": "other"}),
    Row("DELETE", "standing-queries/{standing_id}", "search", 403),
    Row("GET", "standing-queries/{standing_id}/alerts", "search", 200),
    Row("GET", "stream-sources", "admin", 200),
    Row("POST", "stream-sources", "admin", 404, {**SOURCE, "dataset": "none"}),
    Row("GET", "stream-sources/{source_id}", "admin", 200),
    Row("PATCH", "stream-sources/{source_id}", "admin", 200, {"on_change": "replace"}),
    Row("DELETE", "stream-sources/{source_id}", "admin", 204),
    Row("POST", "stream-sources/{source_id}/pause", "admin", 200),
    Row("POST", "stream-sources/{source_id}/resume", "admin", 200),
    Row("GET", "stream-sources/{source_id}/dead-letters", "admin", 200),
    Row("DELETE", "stream-sources/{source_id}/dead-letters", "admin", 200),
    Row("POST", "stream-sources/{source_id}/dead-letters/replay", "admin", 200, {}),
    Row("GET", "stream-sources/{source_id}/dead-letters/{letter_id}", "admin", 200),
    Row("DELETE", "stream-sources/{source_id}/dead-letters/{letter_id}", "admin", 204),
    Row("GET", "alerts", "search", 200),
    Row("GET", "alerts/events", "search", 200),
    Row("GET", "alerts/{alert_id}", "search", 200),
    Row("PATCH", "alerts/{alert_id}", "search", 200, {"read": True}),
    Row("POST", "alerts/read", "search", 200, {}),
    Row("GET", "golden-queries", "read", 200),
    Row("POST", "golden-queries", "train", 404, {"text": "new", "relevant": ["none"]}),
    Row("GET", "golden-queries/{golden_id}", "read", 200),
    Row("DELETE", "golden-queries/{golden_id}", "train", 204),
    Row("GET", "policies", "moderate", 200),
    Row("POST", "policies", "moderate", 201, {"name": "new", "rules": []}),
    Row("POST", "policies/check", "moderate", 200, {"rules": []}),
    Row("GET", "policies/starters", "moderate", 200),
    Row("GET", "policies/{policy_id}", "moderate", 200),
    Row("GET", "policies/{policy_id}/versions", "moderate", 200),
    Row("POST", "policies/{policy_id}/versions", "moderate", 201, {"rules": [], "quarantine": True}),
    Row("GET", "policies/{policy_id}/versions/{number}", "moderate", 200),
    Row("GET", "policies/{policy_id}/versions/{number}/shadow", "moderate", 200),
    Row("POST", "policies/{policy_id}/backtest", "moderate", 202, {"version": 1}),
    Row("POST", "policies/{policy_id}/activate", "admin", 200, {"version": 1, "mode": "enforce"}),
    Row("POST", "policies/{policy_id}/rollback", "admin", 200),
    Row("GET", "reviews", "moderate", 200),
    Row("POST", "reviews/claim-next", "moderate", 200, {}),
    Row("GET", "reviews/figures", "moderate", 200),
    Row("POST", "reviews/bulk", "moderate", 200, BULK),
    Row("POST", "reviews/bulk/preview", "moderate", 200, {"filter": {"rule": "r"}, "decision": "allow"}),
    Row("GET", "reviews/{review_id}", "moderate", 200),
    Row("POST", "reviews/{review_id}/claim", "moderate", 200),
    Row("POST", "reviews/{review_id}/release", "moderate", 200),
    # Nobody decides what they have not claimed.
    Row("POST", "reviews/{review_id}/decide", "moderate", 409, {"decision": "allow", "reason": "x"}),
    Row("GET", "outcomes", "moderate", 200),
    Row("POST", "outcomes/{outcome_id}/undo", "moderate", 200, {"reason": "x"}),
    Row("POST", "batches/{batch_id}/undo", "moderate", 200, {"reason": "x"}),
    Row("GET", "appeals", "moderate", 200),
    Row("POST", "appeals", "moderate", 404, {"audit": "none", "reason": "x"}),
    Row("GET", "appeals/{appeal_id}", "moderate", 200),
    Row("POST", "appeals/{appeal_id}/decide", "moderate", 200, {"decision": "upheld", "reason": "x"}),
    Row("GET", "audit-log", "admin", 200),
    Row("GET", "records", "moderate", 200),
    Row("GET", "records/verify", "moderate", 200),
    Row("GET", "records/anchors", "moderate", 200),
    Row("GET", "records/export", "moderate", 200),
    Row("GET", "audits", "moderate", 200),
    Row("POST", "audits", "moderate", 202, {"text": "new"}),
    Row("GET", "audits/{audit_id}", "moderate", 200),
    Row("GET", "audits/{audit_id}/proof", "moderate", 200),
    Row("GET", "audits/{audit_id}/pictures/{picture_id}", "moderate", 200),
    Row("GET", "detectors", "moderate", 200),
    Row("GET", "hash-lists", "read", 200),
    Row("POST", "hash-lists", "moderate", 201, {"name": "new", "stance": "bad"}),
    Row("POST", "hash-lists/match", "moderate", 200, {"hash": {"algorithm": "pdq", "hash": "0f" * 32}}),
    Row("GET", "hash-lists/{list_id}", "read", 200),
    Row("DELETE", "hash-lists/{list_id}", "moderate", 204),
    Row("GET", "hash-lists/{list_id}/entries", "read", 200),
    Row(
        "POST",
        "hash-lists/{list_id}/entries",
        "moderate",
        201,
        {"hashes": [{"algorithm": "pdq", "hash": "0e" * 32}]},
    ),
    Row("DELETE", "hash-lists/{list_id}/entries/{entry_id}", "moderate", 204),
    Row("GET", "webhooks", "admin", 200),
    Row("POST", "webhooks", "admin", 201, {"url": "https://hooks.example/in"}, room=("webhook_id",)),
    Row("GET", "webhooks/{webhook_id}", "admin", 200),
    Row("PATCH", "webhooks/{webhook_id}", "admin", 200, {"events": ["asset.ready"]}),
    Row("DELETE", "webhooks/{webhook_id}", "admin", 204),
    Row("POST", "webhooks/{webhook_id}/test", "admin", 202),
    Row("POST", "webhooks/{webhook_id}/rotate-secret", "admin", 200),
    Row("POST", "webhooks/{webhook_id}/replay", "admin", 202, {"since": "2026-01-01T00:00:00Z"}),
    Row("GET", "webhooks/{webhook_id}/deliveries", "admin", 200),
    Row("GET", "webhooks/{webhook_id}/deliveries/{delivery_id}", "admin", 200),
    Row("POST", "webhooks/{webhook_id}/deliveries/{delivery_id}/replay", "admin", 202),
    Row("GET", "jobs", "read", 200),
    Row("GET", "jobs/{job_id}", "read", 200),
    Row("GET", "jobs/{job_id}/log", "read", 200),
    Row("POST", "jobs/{job_id}/priority", "write", 200, {"priority": 3}),
    Row("POST", "jobs/{job_id}/cancel", "write", 200),
    Row("POST", "jobs/{ended_id}/retry", "write", 202),
    Row("GET", "jobs/{job_id}/events", "read", 200),
)
# What needs no key, and looks at none: tests/api/test_public_check.py.
OPEN = frozenset({("POST", "check")})
CASES = [pytest.param(row, id=f"{row.method} {row.route}") for row in TABLE]


def routes() -> Iterator[tuple[str, str]]:
    """Every method and route that the API serves, from the URL resolver."""
    from api.urls import urlpatterns

    for pattern in urlpatterns:
        view = pattern.callback.cls
        route = pattern.pattern._route.replace("<id:", "{").replace("<", "{").replace(">", "}")
        for method in view.http_method_names:
            if method != "head" and hasattr(view, method):
                yield method.upper(), route


def test_every_route_stands_in_the_table() -> None:
    same = {
        "{ended_id}": "{job_id}",
        "{document_id}": "{asset_id}",
        "{live_id}": "{model_id}",
        "{stopped_id}": "{generation_id}",
        "{version}": "{number}",
    }
    tabled = {
        (row.method, "/".join(same.get(p, p) for p in row.route.partition("?")[0].split("/")))
        for row in TABLE
    }
    assert set(routes()) == tabled | OPEN
    assert not tabled & OPEN


@pytest.fixture(scope="module")
def home(make_party: Callable[..., Party]) -> Party:
    return make_party()


@pytest.fixture(scope="module")
def abroad(make_party: Callable[..., Party]) -> Party:
    return make_party()


@pytest.fixture(autouse=True)
def _requests_are_offered(settings: Any) -> None:
    """Routes that an installation switches on."""
    settings.SELF_SERVICE = SelfService(frozenset({"requests"}))


def key_for(tenant: Tenant, scopes: Any) -> str:
    with tenant_scope(tenant.id):
        return keys.create_key(name="test", scopes=sorted(scopes))[1]


def build_world(party: Party, names: Iterable[str]) -> dict[str, str]:
    """A row for each of these ids that a route can name, and whatever is made with it."""
    world: dict[str, str] = {}
    for name in names:
        if name not in world:
            world |= next(build for build, made in BUILDERS.items() if name in made)(party)
    return world


def build_assets(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
        added = add_asset(dataset_id=dataset.id, file=io.BytesIO(picture(size=(9, 9))))
        Blob.objects.filter(pk=added.asset.blob_id).update(width=9, height=9, has_thumbnail=True)
        path = storage.path_of(party.id, added.asset.blob.sha256, "thumbnail")
        storage.put(path, picture(kind="WEBP"))
        version, _ = dataset_versions.make_version(dataset_id=dataset.id, name="v1")
    return {
        "dataset_id": str(dataset.id),
        "version_id": str(version.id),
        "asset_id": str(added.asset.id),
        "job_id": str(added.job.id),
    }


def build_ended(party: Party) -> dict[str, str]:
    """A job that is over."""
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
        ended = add_asset(dataset_id=dataset.id, text=uuid.uuid4().hex).job
        jobs.cancel(job_id=ended.id)
    return {"ended_id": str(ended.id)}


def build_document(party: Party) -> dict[str, str]:
    """One that was read, with a picture of its page."""
    content = b"%PDF-1.7 " + uuid.uuid4().bytes
    read = Document("pdf", "", 1, ((612.0, 792.0),), "Read", (Block("paragraph", 1, None, 0, 4),), (), (), "")
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
        asset = add_asset(dataset_id=dataset.id, file=io.BytesIO(content)).asset
        Blob.objects.filter(pk=asset.blob_id).update(document=documents.summary(read))
        for kind, made in documents.as_stored(read).items():
            storage.put(storage.path_of(party.id, asset.blob.sha256, kind), made)
        storage.put(storage.page_path(party.id, asset.blob.sha256, 1, 800), picture(kind="JPEG"))
    return {"document_id": str(asset.id), "page": "1"}


def build_later_version(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
        return {"later_id": str(add_asset(dataset_id=dataset.id, text="1. It is due in May.").asset.id)}


def build_people(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        spare, _ = keys.create_key(name="spare", scopes=["read"])
        email = f"{uuid.uuid4().hex}@people.example"
        invited = invitations.invite(actor=Actor("key:x", "admin"), email=email, role="viewer")
        member = User.objects.create(email=f"m-{email}")
        set_role(tenant=party.tenant, user=member, role="viewer")
    return {
        "key_id": str(spare.id),
        "member_id": str(member.id),
        "invitation_id": str(invited.invitation.id),
    }


def build_token(party: Party) -> dict[str, str]:
    """The only one that works: a tenant may have few."""
    with tenant_scope(party.id):
        ProvisioningToken.objects.filter(tenant=party.tenant).delete()
        made, _ = provisioning.create_token(actor=Actor("key:x", "admin"), name="idp")
    return {"prefix": made.prefix}


def build_sign_on(party: Party) -> dict[str, str]:
    """A connection and a proved domain; others are deleted, as there are only so many."""
    with tenant_scope(party.id):
        for old in connections.list_connections():
            connections.delete_connection(connection_id=old.id, actor="key:x")
        for domain in domains.list_domains():
            domains.remove_domain(domain_id=domain.id, actor="key:x")
        sent = {name: value for name, value in CONNECTION.items() if name != "protocol"}
        changes = connections.read_values(party.id, "oidc", sent)
        made = connections.create_connection(protocol="oidc", changes=changes, actor="key:x")
        row = domains.add_domain(domain=f"{uuid.uuid4().hex}.example", actor="key:x")
        SignOnDomain.objects.filter(pk=row.pk).update(proved_at=timezone.now())
    return {"connection_id": str(made.id), "domain_id": str(row.id)}


def build_operator_request(party: Party) -> dict[str, str]:
    operator = User.objects.create(email=f"o-{uuid.uuid4().hex}@operators.example", is_staff=True)
    until = timezone.now() + dt.timedelta(days=1)
    made = OperatorRequest.objects.create(
        tenant=party.tenant, operator=operator, access="read", reason="Ticket 12.", minutes=60, until=until
    )
    return {"request_id": str(made.id)}


def build_plan_request(party: Party) -> dict[str, str]:
    """The only one: one is open at a time."""
    PlanRequest.objects.filter(tenant=party.tenant).delete()
    return {"plan_request_id": str(PlanRequest.objects.create(tenant=party.tenant, note="More.").id)}


def build_role(party: Party) -> dict[str, str]:
    """The only one, under a name that no request makes."""
    with tenant_scope(party.id):
        CustomRole.objects.filter(tenant=party.tenant).delete()
        made = roles.create_role(
            actor=Actor("key:x", "admin"), name=f"r-{uuid.uuid4().hex[:8]}", scopes=["read"]
        )
    return {"name": made.name}


def build_upload(party: Party) -> dict[str, str]:
    """The only one: a tenant may have so many at a time."""
    with tenant_scope(party.id):
        ResumableUpload.objects.all().delete()
        upload_id, until = uuid.uuid4(), timezone.now() + dt.timedelta(1)
        resumable.begin(upload_id=upload_id, length=4, metadata={}, expires_at=until)
    return {"upload_id": str(upload_id)}


def build_import(party: Party) -> dict[str, str]:
    source = imports.inspect_source(path=table(), filename="a.csv")
    with tenant_scope(party.id):
        dataset = create_dataset(name=uuid.uuid4().hex)
        draft = imports.create_import(dataset_id=dataset.id, source=source)
    return {"import_id": str(draft.id)}


def build_policy(party: Party) -> dict[str, str]:
    """A policy whose second version is in shadow after its first; few may be tried on the history at a time."""
    with tenant_scope(party.id):
        for job in Job.objects.filter(jobs.UNFINISHED, kind="backtest_policy"):
            jobs.cancel(job_id=job.id)
        made, first = policies.create_policy(name=f"spare {uuid.uuid4().hex}", document={"rules": []})
        second, _ = policies.add_version(policy_id=made.id, document={"rules": [], "audit_uploads": True})
        for version in (first, second):
            policies.activate(policy_id=made.id, number=version.number, mode="shadow")
    return {"policy_id": str(made.id), "number": "1"}


def build_reviews(party: Party) -> dict[str, str]:
    """An open flag, a decided one of a batch, and an appeal."""
    made = {"modality": "text", "source": "request", "mode": "enforce"}
    with tenant_scope(party.id):
        asked = Audit.objects.create(**made, decision="review")
        due = timezone.now() + dt.timedelta(hours=1)
        # A rule of its own: what an earlier world left open stays out of the batch.
        rule = uuid.uuid4().hex
        Review.objects.create(audit=asked, rule=rule, due_at=due)
        done = bulk.apply(wanted=bulk.Filter(rule=rule), decision="allow", reason="x", actor="key:x")
        flag = Review.objects.create(audit=asked, rule="other", due_at=due)
        outcome = Outcome.objects.get(batch=done.batch)
        blocked = Audit.objects.create(**made, decision="block")
        appeal = reviews.open_appeal(audit_id=blocked.id, reason="x", actor="key:x")
    return {
        "review_id": str(flag.id),
        "outcome_id": str(outcome.id),
        "batch_id": str(done.batch),
        "appeal_id": str(appeal.id),
    }


def build_task(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        for old in fusion_weights.list_tasks():
            fusion_weights.delete_task(slug=old.slug)
        return {"slug": fusion_weights.create_task(slug=uuid.uuid4().hex, weights={"text": 1}).slug}


def build_list(party: Party) -> dict[str, str]:
    """A hash list with one item; others are deleted, as there are only so many."""
    with tenant_scope(party.id):
        for old in known_content.list_lists():
            known_content.delete_list(list_id=old.id)
        made = known_content.create_list(name=uuid.uuid4().hex, stance="bad")
        raw = known_content.RawHash("sha256", uuid.uuid4().hex * 2)
        (item,), _ = known_content.add_hashes(list_id=made.id, hashes=[raw])
    return {"list_id": str(made.id), "entry_id": str(item)}


def build_audit(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        audit = Audit.objects.create(
            modality="text", source="request", decision="allow", mode="off", verdict="no_evidence"
        )
        unproven = {"rules": "p(1).", "error": "Too much."}
        Evidence.objects.create(audit=audit, document={**evidence(), "reasoning": unproven})
        drawn = AuditPicture.objects.create(audit=audit, name="mask", content=picture(kind="PNG"))
    return {"audit_id": str(audit.id), "picture_id": str(drawn.id)}


def build_receipts(party: Party) -> dict[str, str]:
    """A receipt and a finished export; what was asked for before is cancelled, as one export is made at a time."""
    job_id = build_assets(party)["job_id"]
    with tenant_scope(party.id):
        for job in Job.objects.filter(jobs.UNFINISHED, kind="export_tenant"):
            jobs.cancel(job_id=job.id)
        receipt = Erasure.objects.create(kind=Erasure.Kind.ASSET, target=uuid.uuid4())
        export = Export.objects.create(job_id=job_id, finished_at=timezone.now(), sha256="ab" * 32, bytes=4)
        storage.put(exports.content_of(export).path, b"file")
        released = LegalHold.objects.create(reason="x", set_by="key:x", released_at=timezone.now())
    return {"erasure_id": str(receipt.id), "export_id": str(export.id), "hold_id": str(released.id)}


def build_webhook(party: Party) -> dict[str, str]:
    """A webhook with a delivery that has failed; others are deleted, as there are only so many."""
    with tenant_scope(party.id):
        for old in replays.list_webhooks():
            endpoints.delete_webhook(webhook_id=old.id, actor="key:x")
        row, _ = endpoints.create_webhook(url="https://hooks.example/in", actor="key:x")
        delivery = endpoints.send_test(webhook_id=row.id, actor="key:x")
        endpoints.give_up_pending(row.id)
    return {"webhook_id": str(row.id), "delivery_id": str(delivery.id)}


def build_models(party: Party) -> dict[str, str]:
    """A model, another that took the built-in space's place, and a golden query; nothing else is under way."""
    with tenant_scope(party.id):
        for job in Job.objects.filter(jobs.UNFINISHED, kind__in=("finetune", "embed_beside")):
            jobs.cancel(job_id=job.id)
        VectorClock.objects.update(live=model_routing.default_model(), previous="", beside=[])
        LearntModel.objects.filter(state="live").update(state="retired")
    with TemporaryDirectory() as folder:
        model, live = (with_files(new_model(party.id), Path(folder)) for _ in range(2))
    with tenant_scope(party.id):
        model_routing.begin_dual_write(live.space)
        model_routing.switch(live.space)
        LearntModel.objects.filter(pk=live.pk).update(state="live")
        asset = Asset.objects.first() or add_asset(dataset_id=create_dataset(name="g").id, text="g").asset
        wanted = golden.add_golden_query(text="x", relevant=[asset.id])
    return {"model_id": str(model.id), "live_id": str(live.id), "golden_id": str(wanted.id)}


def build_classifier(party: Party) -> dict[str, str]:
    """One from words with a trained version; others are deleted, as there are only so many."""
    with tenant_scope(party.id):
        for old in Classifier.objects.all():
            classifiers.delete_classifier(classifier_id=old.id)
        made = classifiers.create_classifier(name=f"c{uuid.uuid4().hex}", words="a red circle")
        head = Head(np.ones(256, np.float32), {"image": (1.0, 0.0)}).to_bytes()
        row = ClassifierVersion.objects.create(
            classifier=made,
            number=1,
            state="candidate",
            source="words",
            model=model_routing.live(),
            head=head,
        )
    return {"classifier_id": str(made.id), "version": str(row.number)}


def build_saved(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        made = saved.save_search(who=saved.Who("key:x"), name="x", query={"text": "x"}, shared=True)
    return {"saved_id": str(made.id)}


def build_standing(party: Party) -> dict[str, str]:
    with tenant_scope(party.id):
        # There are only so many of a filter alone.
        StandingQuery.objects.filter(name__in=("x", "new", "other")).delete()
        dataset = create_dataset(name=uuid.uuid4().hex)
        asset = add_asset(dataset_id=dataset.id, text="x").asset
    query = {"datasets": [str(dataset.id)], "modalities": ["text"]}
    prepared = standing.prepare(tenant_id=party.id, query=query)
    with tenant_scope(party.id):
        made = standing.create_standing(who=saved.Who("key:x"), name="x", prepared=prepared)
        alert = StandingAlert.objects.create(standing_query=made, asset=asset)
    return {"standing_id": str(made.id), "alert_id": str(alert.id)}


def build_source(party: Party) -> dict[str, str]:
    """A source with a dead letter; others are deleted, as there are only so many."""
    with tenant_scope(party.id):
        StreamSource.objects.all().delete()
        dataset = create_dataset(name=uuid.uuid4().hex)
        made = sources.create_source(dataset_id=dataset.id, **{**SOURCE, "name": "x"}, actor="key:x")
        letter = StreamDeadLetter.objects.create(
            source=made, dataset_id=dataset.id, position="1-0", slug="invalid", reason="x", body="{}"
        )
    return {"source_id": str(made.id), "letter_id": str(letter.id)}


def build_map(party: Party) -> dict[str, str]:
    """A map; others are deleted, as there are only so many."""
    with tenant_scope(party.id):
        for old in maps.list_maps():
            maps.delete_map(map_id=old.id)
        return {"map_id": str(maps.create_map(name=uuid.uuid4().hex)[0].id)}


def build_generations(party: Party) -> dict[str, str]:
    """One that waits, and one that was cancelled."""
    with tenant_scope(party.id):
        waits, stopped = (
            generation.request_generation(wanted=GenerationSpec(prompt="a cat"))[0] for _ in range(2)
        )
        generation.cancel(generation_id=stopped.id)
    return {"generation_id": str(waits.id), "stopped_id": str(stopped.id)}


# Which ids each of them makes.
BUILDERS: dict[Callable[[Party], dict[str, str]], tuple[str, ...]] = {
    build_assets: ("dataset_id", "version_id", "asset_id", "job_id"),
    build_ended: ("ended_id",),
    build_document: ("document_id", "page"),
    build_later_version: ("later_id",),
    build_people: ("key_id", "member_id", "invitation_id"),
    build_operator_request: ("request_id",),
    build_plan_request: ("plan_request_id",),
    build_token: ("prefix",),
    build_sign_on: ("connection_id", "domain_id"),
    build_role: ("name",),
    build_upload: ("upload_id",),
    build_import: ("import_id",),
    build_receipts: ("erasure_id", "export_id", "hold_id"),
    build_webhook: ("webhook_id", "delivery_id"),
    build_policy: ("policy_id", "number"),
    build_models: ("model_id", "live_id", "golden_id"),
    build_reviews: ("review_id", "outcome_id", "batch_id", "appeal_id"),
    build_list: ("list_id", "entry_id"),
    build_task: ("slug",),
    build_audit: ("audit_id", "picture_id"),
    build_classifier: ("classifier_id", "version"),
    build_map: ("map_id",),
    build_saved: ("saved_id",),
    build_standing: ("standing_id", "alert_id"),
    build_generations: ("generation_id", "stopped_id"),
    build_source: ("source_id", "letter_id"),
}


def table() -> Path:
    """A small CSV on disk, to be taken over by an import."""
    with NamedTemporaryFile(dir=settings.SPOOL_DIR, suffix=".csv", delete=False) as file:
        file.write(b"text\nnew\n")
    return Path(file.name)


# Tables of every tenant together, which say whose each row is.
OWN = (Membership, Invitation, CustomRole, OperatorRequest, PlanRequest, SignOnConnection, SignOnDomain)


def everything(party: Party) -> dict[str, tuple[int, Any]]:
    """How many rows of each table a tenant has, and a sum over their hashes, to show that nothing changed.

    By one statement, and without the meters and log lines that tell of refusals too, and when a key was last used.
    """
    digest = "SELECT %s, count(*), sum(hashtextextended(({of})::text, 0)) FROM {table} t WHERE {rows}"
    scoped = [model for model in apps.get_models() if issubclass(model, TenantModel)]
    mine = f"t.tenant_id = '{party.id}'"
    parts = [
        (model, "t.*", "t.verb <> 'access.refused'" if model is AuditEvent else "true")
        for model in scoped
        if model not in (UsageDay, QuotaCounter)
    ]
    parts.append((KeyDigest, "t.prefix, t.revoked_at, t.scopes::text", mine))
    parts += [(model, "t.*", mine) for model in OWN]
    sql = " UNION ALL ".join(
        digest.format(of=of, table=model._meta.db_table, rows=rows) for model, of, rows in parts
    )
    with tenant_scope(party.id), connection.cursor() as cursor:
        cursor.execute(sql, [model.__name__ for model, *_ in parts])
        return {name: (count, total) for name, count, total in cursor.fetchall()}


def test_a_change_anywhere_is_noticed(party: Party) -> None:
    seen = [everything(party)]
    world = build_assets(party)
    seen.append(everything(party))
    with tenant_scope(party.id):
        Asset.objects.filter(pk=world["asset_id"]).update(caption="another")
        seen.append(everything(party))
        keys.revoke_key(key_id=uuid.UUID(build_people(party)["key_id"]))
    seen.append(everything(party))
    assert len({repr(each) for each in seen}) == len(seen)
    assert everything(party) == seen[-1]


@pytest.fixture(scope="module")
def tokens(home: Party) -> dict[str, str]:
    """A key of each single scope and of each role's scopes."""
    named = {**{scope: {scope} for scope in SCOPES}, **{f"role {r}": s for r, s in ROLES.items()}}
    return {name: key_for(home.tenant, scopes) for name, scopes in named.items()}


def lacking(row: Row, name: str) -> list[str]:
    """The scopes that the key of this name does not have."""
    return row.lacks(ROLES[name.removeprefix("role ")] if name.startswith("role ") else {name})


@pytest.mark.parametrize("row", CASES)
def test_scopes_and_roles(row: Row, home: Party, tokens: dict[str, str]) -> None:
    world = build_world(home, row.names)
    before = everything(home)
    for name in [name for name in tokens if lacking(row, name)]:
        problem = refused(
            Api(tokens[name]).call(row.method, row.path(world), row.body, row.headers), 403, "missing-scope"
        )
        assert problem["scope"] == lacking(row, name)[0]
    assert everything(home) == before
    for name in [name for name in tokens if not lacking(row, name)]:
        answer = Api(tokens[name]).call(row.method, row.path(world), fresh(row.body), row.headers)
        assert answer.status_code == row.status, (name, answer.content)
        # What a success has used up is made anew for the next key.
        world = world if row.method == "GET" else build_world(home, row.names)


def fresh(body: Any) -> Any:
    """With a name that nothing has yet."""
    named = {key: uuid.uuid4().hex for key in ("name", "slug") if isinstance(body, dict) and key in body}
    return {**body, **named} if named else body


BODIES = ((b"{", "application/json"), (b"<x/>", "text/xml"), (b"", "application/json"))


@pytest.mark.parametrize("row", [c for c in CASES if "{" in c.values[0].route])
def test_what_belongs_to_another_tenant_is_absent_whatever_the_body(
    row: Row, home: Party, abroad: Party
) -> None:
    world = build_world(abroad, row.names)
    before = everything(abroad)
    nowhere = dict.fromkeys(world, str(uuid.uuid4()))
    malformed = dict.fromkeys(world, "x%00y")
    upper = {name: value.upper() for name, value in world.items()}
    for body, kind in BODIES:
        details = {
            refused(
                Api(home.token).call(row.method, row.path(names), body, {"Content-Type": kind}),
                404,
                "not-found",
            )["detail"]
            for names in (world, nowhere, malformed, upper)
        }
        assert len(details) == 1, "an answer tells what exists elsewhere"
    assert everything(abroad) == before


@pytest.fixture(scope="module")
def dead_tokens(home: Party, make_party: Callable[..., Party]) -> dict[str, str | None]:
    """Tokens that must open nothing."""
    with tenant_scope(home.id):
        revoked, revoked_token = keys.create_key(name="revoked", scopes=list(SCOPES))
        keys.revoke_key(key_id=revoked.id)
        expired, expired_token = keys.create_key(
            name="expired", scopes=list(SCOPES), expires_at=timezone.now() + dt.timedelta(hours=1)
        )
    KeyDigest.objects.filter(key_id=expired.id).update(expires_at=timezone.now() - dt.timedelta(hours=1))
    suspended = make_party()
    Tenant.objects.filter(pk=suspended.id).update(state=Tenant.State.SUSPENDED)
    prefix = home.token.partition(".")[0]
    return {
        "none": None,
        "unknown": "cl0000000000.secret",
        "wrong secret": f"{prefix}.secret",
        "no dot": "nonsense",
        "revoked": revoked_token,
        "expired": expired_token,
        "suspended": suspended.token,
    }


@pytest.mark.parametrize("row", CASES)
def test_no_live_key_no_answer(row: Row, home: Party, dead_tokens: dict[str, str | None]) -> None:
    world = build_world(home, row.names)
    before = everything(home)
    for name, token in dead_tokens.items():
        answer = Api(token).call(row.method, row.path(world), row.body, row.headers)
        refused(answer, 401, "unauthenticated" if name == "none" else "invalid-key")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    assert everything(home) == before


def test_a_key_dies_at_once(party: Party) -> None:
    api = Api(key_for(party.tenant, {"read"}))
    assert api.get("/me").status_code == 200
    with tenant_scope(party.id):
        prefix = api.token.partition(".")[0]
        key_id = KeyDigest.objects.get(prefix=prefix).key_id
        keys.revoke_key(key_id=key_id)
    refused(api.get("/me"), 401, "invalid-key")


def test_ids_in_bodies_of_another_tenant_are_absent(party: Party, stranger: Party) -> None:
    world = build_world(stranger, ["asset_id"])
    for body in (
        {"vector": VECTOR, "datasets": [world["dataset_id"]]},
        {"image": {"asset": world["asset_id"]}},
        {"audio": {"asset": world["asset_id"]}},
        {"vector": VECTOR, "datasets": ["no id at all"]},
    ):
        refused(Api(party.token).post("/search", body), 404, "not-found")


def test_search_never_returns_another_tenants_assets(party: Party, stranger: Party) -> None:
    build_world(stranger, ["asset_id"])
    answer = Api(party.token).post("/search", {"vector": VECTOR}).json()
    assert (answer["results"], answer["total_candidates"]) == ([], 0)
    with tenant_scope(party.id):
        assert not Asset.objects.exists()
