"""Who may open what: one table over all pages, and what another tenant's ids answer."""

from __future__ import annotations

import datetime as dt
import secrets
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, reverse
from django.utils import timezone

from console.urls import urlpatterns
from tenants.accounts.models import Membership, OperatorRequest, Tenant
from tenants.accounts.permissions import ROLES, Actor, scopes_of
from tenants.datasets import resumable, selectors, services, storage
from tenants.datasets.models import DatasetVersion, Import, LegalHold
from tenants.events import endpoints
from tenants.events.models import Erasure, Export
from tenants.generation.models import Generation
from tenants.generation.services import request_generation
from tenants.generation.validation import GenerationSpec
from tenants.jobs import archiving
from tenants.jobs.models import JobArchive
from tenants.jobs.selectors import get_job
from tenants.learning.classifiers.services import create_classifier
from tenants.learning.dataset_versions import make_version
from tenants.learning.golden import add_golden_query
from tenants.learning.models import (
    Classifier,
    ClassifierExample,
    ClassifierVersion,
    GoldenQuery,
    LearntModel,
    ResultLabel,
)
from tenants.moderation import known_content, reviews
from tenants.moderation.models import (
    Appeal,
    AuditPicture,
    AuditRequest,
    Backtest,
    HashEntry,
    HashList,
    Outcome,
    Policy,
    PolicyActivation,
    PolicyVersion,
    Review,
)
from tenants.moderation.policies import backtests
from tenants.moderation.reviews import bulk
from tenants.people import invitations, roles
from tenants.people.provisioning import tokens
from tenants.people.sign_on import connections, domains
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.upkeep import job_archive
from tenants.retrieval import standing as standing_queries
from tenants.retrieval.maps import create_map
from tenants.retrieval.models import (
    QueryPicture,
    SavedSearch,
    SearchTask,
    StandingAlert,
    StandingQuery,
)
from tenants.retrieval.query.fusion_weights import create_task
from tenants.retrieval.saved import Who, save_search
from tenants.scope import tenant_scope
from tests.conftest import Party, new_party
from tests.console.auditing import audited, flag_of
from tests.tenants.learning.world import new_model
from tests.tenants.people import new_member, new_user
from tests.tenants.reviewing import ANN, make_world

pytestmark = pytest.mark.guard

# Before signing in or choosing a tenant, and about the person alone: tests/console/test_people.py. Of anybody: `check`,
# tests/console/test_check.py; `sign-up`, tests/console/test_sign_up.py.
BEFORE_A_TENANT = {
    "check",
    *("sign-up", "sign-up-open"),
    *("login", "login-code", "logout", "choose", "invitation", "reset", "reset-new", "language"),
    *("account", "account-name", "account-password", "account-delete"),
    *("account-end-others", "account-end-session"),
    *("second-factor", "second-factor-off", "second-factor-codes"),
    *("sso-login", "sso-callback", "sso-acs", "sso-finish", "sso-prove", "sso-confirm", "sso-metadata"),
    *("login-passkey", "passkeys-new", "passkeys-codes", "passkey-remove", "verify", "verify-go-on"),
}
# Names that start so have an id in their address.
ONE_THING = {
    *("member", "invitation", "dataset", "asset", "job", "key"),
    *("import", "upload", "export", "erasure", "role", "connection", "domain"),
    *("model", "golden", "classifier", "task", "webhook", "generation"),
    "standing",
    *("audit", "appeal", "review", "outcome", "batch", "policy", "backtest", "hash"),
}

# Name, method, scope. Every address of the console is in here or in BEFORE_A_TENANT.
TABLE = [
    ("home", "GET", "read"),
    ("checklist-dismiss", "POST", "read"),
    ("go", "GET", "read"),
    ("datasets", "GET", "read"),
    ("datasets-new", "POST", "write"),
    ("dataset", "GET", "read"),
    ("dataset-edit", "POST", "write"),
    ("dataset-delete", "POST", "write"),
    ("dataset-fields", "GET", "read"),
    ("dataset-fields-save", "POST", "write"),
    ("dataset-health", "GET", "read"),
    ("dataset-examine", "POST", "write"),
    ("dataset-versions", "GET", "read"),
    ("dataset-version-new", "POST", "write"),
    ("dataset-version", "GET", "read"),
    ("dataset-version-compare", "GET", "read"),
    ("dataset-version-delete", "POST", "write"),
    ("dataset-add", "POST", "write"),
    ("dataset-imports", "GET", "read"),
    ("dataset-import", "POST", "write"),
    ("import", "GET", "read"),
    ("import-preview", "POST", "write"),
    ("import-start", "POST", "write"),
    ("import-delete", "POST", "write"),
    ("import-receipt", "GET", "read"),
    ("uploads", "POST", "write"),
    ("upload", "PATCH", "write"),
    ("upload", "DELETE", "write"),
    ("asset", "GET", "read"),
    ("asset-tile", "GET", "read"),
    ("asset-comparison", "GET", "read"),
    ("dataset-bulk-delete", "POST", "write"),
    ("dataset-bulk-describe", "POST", "write"),
    ("dataset-bulk-retry", "POST", "write"),
    ("dataset-bulk-tag", "POST", "write"),
    ("asset-tags", "POST", "write"),
    ("dataset-bulk-audit", "POST", "moderate"),
    ("asset-neighbours", "GET", "search"),
    ("asset-edit", "POST", "write"),
    ("asset-caption", "POST", "write"),
    ("asset-delete", "POST", "write"),
    ("asset-content", "GET", "read"),
    ("asset-thumbnail", "GET", "read"),
    ("asset-page", "GET", "read"),
    ("asset-audits", "GET", "moderate"),
    ("asset-audit", "POST", "moderate"),
    ("audits", "GET", "moderate"),
    ("audits", "POST", "moderate"),
    ("audit", "GET", "moderate"),
    ("audit-content", "GET", "moderate"),
    ("audit-picture", "GET", "moderate"),
    ("shortcuts", "GET", "read"),
    ("shortcuts", "POST", "read"),
    ("shortcuts-switch", "POST", "read"),
    ("appeals", "GET", "read"),
    ("appeal", "GET", "read"),
    ("asset-appeal", "GET", "read"),
    ("asset-appeal", "POST", "read"),
    ("audit-appeal", "GET", "moderate"),
    ("audit-appeal", "POST", "moderate"),
    ("reviews", "GET", "moderate"),
    ("reviews-next", "POST", "moderate"),
    ("reviews-bulk", "GET", "moderate"),
    ("reviews-bulk-apply", "POST", "moderate"),
    ("reviews-figures", "GET", "moderate"),
    ("outcomes", "GET", "moderate"),
    ("review", "GET", "moderate"),
    ("review-claim", "POST", "moderate"),
    ("review-release", "POST", "moderate"),
    ("review-decide", "POST", "moderate"),
    ("outcome-undo", "POST", "moderate"),
    ("batch-undo", "POST", "moderate"),
    ("policies", "GET", "moderate"),
    ("policies-new", "POST", "moderate"),
    ("policies-language", "GET", "moderate"),
    ("policies-check", "POST", "moderate"),
    ("policy", "GET", "moderate"),
    ("policy-rules", "GET", "moderate"),
    ("policy-rules", "POST", "moderate"),
    ("policy-edit", "GET", "moderate"),
    ("policy-edit", "POST", "moderate"),
    ("policy-shadow", "GET", "moderate"),
    ("policy-activate", "POST", "admin"),
    ("policy-roll-back", "POST", "admin"),
    ("policy-backtest", "POST", "moderate"),
    ("backtest", "GET", "moderate"),
    ("map", "GET", "read"),
    ("map-points", "GET", "read"),
    ("map-topics", "GET", "read"),
    ("map-names", "POST", "read"),
    ("map-similarity", "POST", "search"),
    ("map-matches", "GET", "search"),
    ("map-new", "POST", "write"),
    ("map-tag-assets", "POST", "write"),
    ("map-golden", "POST", "train"),
    ("map-delete-assets", "POST", "write"),
    ("map-delete", "POST", "write"),
    ("hashes", "GET", "moderate"),
    ("hashes-new", "POST", "moderate"),
    ("hash-list", "GET", "moderate"),
    ("hash-list-hashes", "POST", "moderate"),
    ("hash-list-content", "POST", "moderate"),
    ("hash-list-delete", "POST", "moderate"),
    ("hash-list-remove", "POST", "moderate"),
    ("generate", "GET", "read"),
    ("generate-new", "POST", "generate"),
    ("generate-disclosure", "GET", "admin"),
    ("generate-disclosure", "POST", "admin"),
    ("generation", "GET", "read"),
    ("generation-preview", "GET", "read"),
    ("generation-vary", "POST", "generate"),
    ("generation-cancel", "POST", "generate"),
    ("generation-retry", "POST", "generate"),
    ("generation-delete", "POST", "generate"),
    ("classifiers", "GET", "read"),
    ("classifiers-new", "POST", "train"),
    ("classifier", "GET", "read"),
    ("classifier-label", "POST", "train"),
    ("classifier-train", "POST", "train"),
    ("classifier-promote", "POST", "train"),
    ("classifier-delete", "POST", "train"),
    ("models", "GET", "read"),
    ("models-compare", "GET", "read"),
    ("models-finetune", "GET", "train"),
    ("models-finetune", "POST", "train"),
    ("models-golden", "GET", "read"),
    ("models-golden-new", "POST", "train"),
    ("models-labels", "GET", "read"),
    ("models-label", "POST", "search"),
    ("models-labels-golden", "POST", "train"),
    ("models-labels-teach", "POST", "write"),
    ("models-labels-forget", "POST", "train"),
    ("models-labels-calibrate", "POST", "train"),
    ("models-labels-retire", "POST", "train"),
    ("golden-remove", "POST", "train"),
    ("model", "GET", "read"),
    ("model-promote", "POST", "train"),
    ("model-roll-back", "POST", "train"),
    ("model-cancel", "POST", "train"),
    ("model-retry", "POST", "train"),
    ("model-delete", "POST", "train"),
    ("search", "GET", "search"),
    ("search-results", "POST", "search"),
    ("search-feedback", "POST", "search"),
    ("search-picture", "GET", "search"),
    ("search-save", "POST", "search"),
    ("search-rename", "POST", "search"),
    ("search-delete", "POST", "search"),
    ("search-recent-clear", "POST", "search"),
    ("alerts", "GET", "search"),
    ("alerts-unread", "GET", "search"),
    ("alerts-events", "GET", "search"),
    ("alerts-mark", "POST", "search"),
    ("alerts-queries", "GET", "search"),
    ("alerts-new", "POST", "search"),
    ("alerts-audits", "POST", "moderate"),
    ("standing-change", "POST", "search"),
    ("standing-delete", "POST", "search"),
    ("tasks", "GET", "read"),
    ("tasks-new", "GET", "train"),
    ("tasks-new", "POST", "train"),
    ("tasks-gate-train", "POST", "train"),
    ("tasks-gate-retire", "POST", "train"),
    ("task", "GET", "train"),
    ("task", "POST", "train"),
    ("task-delete", "POST", "train"),
    ("jobs", "GET", "read"),
    ("jobs-states", "GET", "read"),
    ("jobs-archives", "GET", "read"),
    ("job-archive", "GET", "read"),
    ("jobs-bulk", "GET", "write"),
    ("jobs-bulk", "POST", "write"),
    ("job", "GET", "read"),
    ("job-events", "GET", "read"),
    ("job-log", "GET", "read"),
    ("job-priority", "POST", "write"),
    ("job-cancel", "POST", "write"),
    ("job-retry", "POST", "write"),
    ("usage", "GET", "read"),
    ("usage-export", "GET", "read"),
    ("plan", "GET", "admin"),
    ("plan", "POST", "admin"),
    ("plan-withdraw", "POST", "admin"),
    ("data-close", "GET", "admin"),
    ("data-close", "POST", "admin"),
    ("data-close-cancel", "POST", "admin"),
    ("webhooks", "GET", "admin"),
    ("webhooks-new", "GET", "admin"),
    ("webhooks-new", "POST", "admin"),
    ("webhook", "GET", "admin"),
    ("webhook-edit", "GET", "admin"),
    ("webhook-edit", "POST", "admin"),
    ("webhook-state", "POST", "admin"),
    ("webhook-test", "POST", "admin"),
    ("webhook-rotate", "POST", "admin"),
    ("webhook-replay-failed", "POST", "admin"),
    ("webhook-delivery", "GET", "admin"),
    ("webhook-replay", "POST", "admin"),
    ("webhook-delete", "POST", "admin"),
    ("keys", "GET", "admin"),
    ("keys", "POST", "admin"),
    ("key-limits", "POST", "admin"),
    ("key-rotate", "POST", "admin"),
    ("key-revoke", "POST", "admin"),
    ("origins", "GET", "admin"),
    ("origins", "POST", "admin"),
    ("origins-remove", "POST", "admin"),
    ("security", "GET", "admin"),
    ("security", "POST", "admin"),
    ("provisioning", "GET", "admin"),
    ("provisioning", "POST", "admin"),
    ("provisioning-roles", "POST", "admin"),
    ("provisioning-rotate", "POST", "admin"),
    ("provisioning-revoke", "POST", "admin"),
    ("sso", "GET", "admin"),
    ("sso-new", "GET", "admin"),
    ("sso-new", "POST", "admin"),
    ("sso-domains", "POST", "admin"),
    ("domain-prove", "POST", "admin"),
    ("domain-route", "POST", "admin"),
    ("domain-remove", "POST", "admin"),
    ("connection", "GET", "admin"),
    ("connection-edit", "GET", "admin"),
    ("connection-edit", "POST", "admin"),
    ("connection-switch", "POST", "admin"),
    ("connection-test", "POST", "admin"),
    ("connection-delete", "POST", "admin"),
    ("member-break-glass", "POST", "admin"),
    ("security-networks", "GET", "admin"),
    ("security-networks", "POST", "admin"),
    ("security-operators", "GET", "admin"),
    ("security-operators", "POST", "admin"),
    ("operator-answer", "POST", "admin"),
    ("people", "GET", "admin"),
    ("roles", "GET", "admin"),
    ("roles", "POST", "admin"),
    ("role-edit", "POST", "admin"),
    ("role-delete", "POST", "admin"),
    ("people-invite", "POST", "admin"),
    ("people-second-factor", "POST", "admin"),
    ("member-role", "POST", "admin"),
    ("member-narrowing", "GET", "admin"),
    ("member-narrowing", "POST", "admin"),
    ("member-reset-link", "POST", "admin"),
    ("member-remove", "POST", "admin"),
    ("invitation-revoke", "POST", "admin"),
    ("invitation-link", "POST", "admin"),
    ("log", "GET", "admin"),
    ("data", "GET", "admin"),
    ("data-export", "POST", "admin"),
    ("export-content", "GET", "admin"),
    ("data-processing", "GET", "admin"),
    ("holds", "GET", "admin"),
    ("holds", "POST", "admin"),
    ("hold-release", "POST", "admin"),
    ("data-erasure", "POST", "admin"),
    ("erasure", "GET", "admin"),
]


class Things:
    """One thing of each kind in a tenant, and the address of a page about it."""

    def __init__(self, party: Party) -> None:
        self.party = party
        with tenant_scope(party.id):
            self.dataset = services.create_dataset(name=f"d-{secrets.token_hex(4)}")
            added = add_asset(dataset_id=self.dataset.id, text="A red kettle on a stove.")
            self.asset, self.job = added.asset, added.job
            self.ids = {
                "dataset_id": self.dataset.id,
                "asset_id": self.asset.id,
                "number": 1,
                "version_id": make_version(dataset_id=self.dataset.id, name="v1")[0].id,
                "job_id": added.job.id if added.job else None,
                "archive_id": _archive(added.job),
                "key_id": _key_of(party),
                "import_id": _import_of(self.dataset.id),
                **_webhook(),
                **_sign_on(party),
                "upload_id": _upload(),
                "erasure_id": Erasure.objects.create(kind="asset").id,
                "export_id": Export.objects.create(job_id=added.job.id).id,
                "hold_id": LegalHold.objects.create(reason="x", set_by="x", released_at=timezone.now()).id,
                "user_id": new_member(party.tenant, "viewer").pk,
                "invitation_id": _invite(party),
                "request_id": _operator_request(party),
                "name": roles.create_role(
                    actor=Actor("key:x", "admin"), name=f"r{secrets.token_hex(4)}", scopes=["read"]
                ).name,
                "model_id": new_model(party.id, state="draft").id,
                "slug": create_task(slug=f"t-{secrets.token_hex(4)}", weights={"text": 1}).slug,
                "map_id": create_map(name="kept")[0].id,
                "generation_id": request_generation(wanted=GenerationSpec(prompt="a red kettle"))[0].id,
                "prefix": tokens.create_token(actor=Actor("key:x", "admin"), name="idp")[0].prefix,
                "classifier_id": create_classifier(name=f"c-{secrets.token_hex(4)}").id,
                "query_id": QueryPicture.objects.create(
                    sha256=secrets.token_hex(32), bytes=1, used_at=timezone.now()
                ).id,
                "saved_id": save_search(
                    who=Who("key:x"), name="Kettles", query={"text": "kettle"}, shared=True
                ).id,
                "standing_id": _standing(self.asset),
                "golden_id": add_golden_query(text="kettle", relevant=[self.asset.id]).id,
            }

    def address(self, name: str) -> str:
        pattern = next(p for p in urlpatterns if p.name == name)
        wanted = pattern.pattern.converters
        if set(wanted) - set(self.ids):
            # Made only for those who ask about it, as that takes a while.
            self.ids |= _moderation(self.party)
        return reverse(f"console:{name}", kwargs={key: self.ids[key] for key in wanted})


def _moderation(party: Party) -> dict[str, Any]:
    """One audit with a picture, its review that was decided in a batch, its policy, a backtest and a list."""
    world = make_world(party)
    audit = audited(world, ("rude", "naked"))
    review = flag_of(world, audit)
    with tenant_scope(party.id):
        reviews.queue.claim(review_id=review.id, actor=ANN)
        outcome = reviews.decide_review(review_id=review.id, decision="allow", reason="Fine.", actor=ANN)
        appeal = reviews.open_appeal(audit_id=world.audit(("known",)).id, reason="It is art.", actor=ANN)
        wanted = bulk.Filter(rule="naked")
        batch = bulk.apply(wanted=wanted, decision="allow", reason="Fine.", actor=ANN).batch
        job = backtests.start_backtest(version=world.version)
        return {
            "audit_id": audit.id,
            "picture_id": AuditPicture.objects.get(audit=audit).id,
            "review_id": review.id,
            "appeal_id": appeal.id,
            "outcome_id": outcome.id,
            "batch_id": batch,
            "policy_id": world.version.policy_id,
            "backtest_id": Backtest.objects.get(job_id=job.id).id,
            **_listed(),
        }


def _listed() -> dict[str, Any]:
    row = known_content.create_list(name="Fakes", stance="bad")
    [item], _ = known_content.add_hashes(list_id=row.id, hashes=[known_content.RawHash("sha256", "0" * 64)])
    return {"list_id": row.id, "item_id": item}


def _standing(asset: Any) -> uuid.UUID:
    """A standing query that a key made, with an alert."""
    query = standing_queries.Prepared({"modalities": ["text"]})
    row = standing_queries.create_standing(who=Who("key:x"), name="Kettles", prepared=query)
    StandingAlert.objects.create(standing_query=row, asset=asset)
    return row.id


def _written_in(party: Party) -> list[Any]:
    """Everything that moderation, learning and generation have written in a tenant."""
    models = (
        AuditRequest,
        Appeal,
        Review,
        Outcome,
        Policy,
        PolicyVersion,
        PolicyActivation,
        Backtest,
        HashList,
        HashEntry,
        DatasetVersion,
        LearntModel,
        GoldenQuery,
        ResultLabel,
        Classifier,
        ClassifierExample,
        ClassifierVersion,
        SearchTask,
        SavedSearch,
        StandingQuery,
        StandingAlert,
        Generation,
    )
    with tenant_scope(party.id):
        return [list(model.objects.order_by("id").values()) for model in models]


def _invite(party: Party) -> uuid.UUID:
    actor = Actor(str(party.owner.pk), "owner", party.owner.pk)
    email = f"{secrets.token_hex(4)}@people.example"
    return invitations.invite(actor=actor, email=email, role="viewer").invitation.id


def _operator_request(party: Party) -> uuid.UUID:
    until = timezone.now() + dt.timedelta(days=1)
    fields = {"access": "read", "reason": "Ticket 12.", "minutes": 60, "until": until}
    return OperatorRequest.objects.create(tenant=party.tenant, operator=new_user(), **fields).id


def _import_of(dataset_id: uuid.UUID) -> uuid.UUID:
    row = Import.objects.create(dataset_id=dataset_id, source="upload", location="lost.csv", format="csv")
    return row.id


def _archive(job: Any) -> uuid.UUID:
    """An archive with the line of one job, which stays."""
    now = timezone.now()
    row = JobArchive.objects.create(first_at=now, last_at=now, count=1, finished_at=now, jobs=[str(job.id)])
    storage.put(job_archive.path_of(row.tenant_id, row.id), job_archive.packed(archiving.lines(row)))
    return row.id


def _webhook() -> dict[str, Any]:
    row, _ = endpoints.create_webhook(url="https://hooks.example/in", actor="key:x")
    return {"webhook_id": row.id, "delivery_id": endpoints.send_test(webhook_id=row.id, actor="key:x").id}


def _sign_on(party: Party) -> dict[str, Any]:
    sent = {"name": "Example", "issuer": "https://login.example", "client_id": "c", "client_secret": "s"}
    changes = connections.read_values(party.id, "oidc", sent)
    found = connections.create_connection(protocol="oidc", changes=changes, actor="key:x")
    name = f"{secrets.token_hex(4)}.example"
    row = domains.add_domain(domain=name, connection_id=found.id, actor="key:x")
    return {"connection_id": found.id, "domain_id": row.id}


def _upload() -> uuid.UUID:
    upload_id = uuid.uuid4()
    expires = timezone.now() + dt.timedelta(hours=1)
    resumable.begin(upload_id=upload_id, length=4, metadata={}, expires_at=expires)
    return upload_id


def _key_of(party: Party) -> uuid.UUID:
    from tenants.accounts.keys import list_keys

    return list_keys()[0][0].id


@pytest.fixture
def things(party: Party) -> Things:
    return Things(party)


@pytest.fixture(scope="module")
def standing() -> Things:
    """One for all tests of what is refused: nothing may change it, and each of them sees that nothing has."""
    return Things(new_party())


@pytest.fixture(scope="module")
def viewer(standing: Things) -> Client:
    client = Client()
    client.force_login(new_member(standing.party.tenant, "viewer"))
    return client


#: A search or a standing query that a key saved, which owners alone change.
OWNERS_ONLY = {
    *(("search-rename", "POST"), ("search-delete", "POST")),
    *(("standing-change", "POST"), ("standing-delete", "POST")),
}


def test_the_table_has_every_address_with_its_scope() -> None:
    listed = {(name, scope) for name, _, scope in TABLE}
    real = {
        (p.name, p.callback.needs)
        for p in urlpatterns
        if isinstance(p, URLPattern) and p.name not in BEFORE_A_TENANT
    }
    assert listed == real


@pytest.mark.parametrize("role", list(ROLES))
def test_a_role_opens_what_its_scopes_allow(role: str, things: Things, person: Callable[..., Client]) -> None:
    client, allowed = person(role), scopes_of(role)
    # Changes come last, as they delete what the others look at.
    for name, method, scope in sorted(TABLE, key=lambda row: row[1]):
        response = client.generic(method, things.address(name))
        opens = scope in allowed and (role == "owner" or (name, method) not in OWNERS_ONLY)
        assert (response.status_code != 403) == opens, (name, method, response.status_code)
        assert response.status_code < 500, name


@pytest.mark.parametrize(
    ("name", "method", "scope"),
    [row for row in TABLE if row[2] in {"write", "train", "admin", "moderate", "generate"}],
)
def test_a_refusal_changes_nothing(
    name: str, method: str, scope: str, standing: Things, viewer: Client
) -> None:
    address, party = standing.address(name), standing.party
    before = _written_in(party)
    response = viewer.generic(method, address)
    assert response.status_code == 403
    assert f"{scope}</span>" in response.content.decode()
    assert _written_in(party) == before
    with tenant_scope(party.id):
        assert selectors.get_dataset(standing.dataset.id).asset_count == 1
        assert get_job(standing.ids["job_id"]).state != "cancelled"
        assert standing.dataset in selectors.list_datasets()


@pytest.mark.parametrize(("name", "method", "scope"), [row for row in TABLE if row[0] not in BEFORE_A_TENANT])
def test_who_is_not_signed_in_is_sent_to_sign_in(
    name: str, method: str, scope: str, standing: Things
) -> None:
    response = Client().generic(method, standing.address(name))
    assert response.status_code == 302
    assert response["Location"].startswith("/login?next=")
    asked_by_script = Client().generic(method, standing.address(name), headers={"accept": "application/json"})
    assert asked_by_script.status_code == 401


@pytest.mark.parametrize(
    ("name", "method", "scope"), [row for row in TABLE if row[0].split("-")[0] in ONE_THING]
)
def test_what_belongs_to_another_tenant_is_absent(
    name: str, method: str, scope: str, standing: Things, owner: Client
) -> None:
    theirs, stranger = standing, standing.party
    with tenant_scope(stranger.id):
        before = selectors.asset_shape(selectors.get_asset(theirs.asset.id))
    response = owner.generic(method, theirs.address(name))
    assert response.status_code == 404
    assert str(theirs.dataset.name) not in response.content.decode()
    with tenant_scope(stranger.id):
        assert selectors.asset_shape(selectors.get_asset(theirs.asset.id)) == before


def test_another_tenants_ids_inside_a_form_or_query_are_absent(stranger: Party, owner: Client) -> None:
    theirs = Things(stranger)
    for fields in ({"text": "x", "dataset": str(theirs.dataset.id)}, {"image_asset": str(theirs.asset.id)}):
        assert owner.post("/search/results", fields, follow=True).status_code == 404
        assert owner.post("/search/results", fields, headers={"hx-request": "true"}).status_code == 404
    assert owner.get(f"/search?asset={theirs.asset.id}").status_code == 404
    assert owner.get(f"/jobs/states?ids={theirs.ids['job_id']}").json() == {"jobs": []}


def test_losing_the_membership_takes_effect_at_once(party: Party, owner: Client) -> None:
    assert owner.get("/datasets").status_code == 200
    Membership.objects.filter(user=owner.user, tenant=party.tenant).delete()
    response = owner.get("/datasets")
    assert (response.status_code, response["Location"]) == (302, "/workspace")
    page = owner.get("/workspace")
    assert page.status_code == 403
    assert "belongs to no active workspace" in page.content.decode()


def test_a_changed_role_takes_effect_at_once(party: Party, owner: Client) -> None:
    assert owner.get("/keys").status_code == 200
    Membership.objects.filter(user=owner.user, tenant=party.tenant).update(role="viewer")
    assert owner.get("/keys").status_code == 403


def test_a_suspended_tenant_is_closed(party: Party, owner: Client) -> None:
    Tenant.objects.filter(pk=party.id).update(state=Tenant.State.SUSPENDED)
    assert owner.get("/")["Location"] == "/workspace"


def test_who_has_several_tenants_chooses_and_sees_only_that_one(
    party: Party, stranger: Party, person: Callable[..., Client]
) -> None:
    client = person("editor", tenants=(party.tenant, stranger.tenant))
    mine, theirs = Things(party), Things(stranger)
    assert client.get("/")["Location"] == "/workspace"
    assert client.get("/workspace").content.decode().count('name="tenant"') == 2
    client.post("/workspace", {"tenant": str(party.id)})
    assert client.get(f"/datasets/{mine.dataset.id}").status_code == 200
    assert client.get(f"/datasets/{theirs.dataset.id}").status_code == 404
    client.post("/workspace", {"tenant": str(stranger.id)})
    assert client.get(f"/datasets/{theirs.dataset.id}").status_code == 200


def test_a_tenant_that_is_not_ones_own_cannot_be_chosen(stranger: Party, owner: Client) -> None:
    response = owner.post("/workspace", {"tenant": str(stranger.id)})
    assert "tenant" not in owner.session
    assert response.status_code == 200
    session: Any = owner.session
    session["tenant"] = str(stranger.id)
    session.save()
    page = owner.get("/").content.decode()
    assert stranger.tenant.name not in page


@pytest.mark.parametrize(("name", "method", "scope"), [row for row in TABLE if row[1] == "POST"])
def test_a_form_without_its_token_is_refused(name: str, method: str, scope: str, standing: Things) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(standing.party.owner)
    response = strict.post(standing.address(name), {"name": standing.dataset.name})
    assert response.status_code == 403
    assert "This form has expired" in response.content.decode()


@pytest.mark.parametrize("address", ["/login", "/logout", "/workspace"])
def test_signing_in_and_out_need_a_token_too(address: str, owner: Client) -> None:
    strict = Client(enforce_csrf_checks=True)
    if address != "/login":
        strict.force_login(owner.user)
    assert strict.post(address, {}).status_code == 403


def test_only_the_named_methods_are_served(things: Things, owner: Client) -> None:
    for name, method, _ in TABLE:
        other = "POST" if method == "GET" else "GET"
        if (name, other) not in {(n, m) for n, m, _ in TABLE}:
            assert owner.generic(other, things.address(name)).status_code == 405, name
