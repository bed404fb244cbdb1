"""Members who see chosen datasets and review queues: what the database lets through, and who decides about it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import pytest
from django.apps import apps
from django.db import InternalError, ProgrammingError, connection

from tenants.accounts import keys
from tenants.accounts.models import KeyDigest, Membership
from tenants.accounts.permissions import Actor
from tenants.accounts.roles import narrowing_of
from tenants.accounts.watchers import by_session, may_watch
from tenants.datasets.models import Asset, Dataset
from tenants.errors import CursorExpired, Invalid, NotAllowed, NotFound
from tenants.events.models import AuditEvent
from tenants.moderation import record, reviews
from tenants.moderation.models import Audit, Outcome, Review
from tenants.moderation.reviews import bulk, queue
from tenants.people import invitations, members
from tenants.people.narrowing import narrow_member
from tenants.retrieval import Query, search
from tenants.retrieval.query.result_page import hydrate
from tenants.scope import Narrowing, TenantModel, narrowed, narrowing, tenant_scope, whole_tenant
from tests.conftest import Party
from tests.tenants.people import acting, new_member, new_user, token_of
from tests.tenants.reviewing import ANN, BOB, World, make_world

TENANT_MODELS = [model for model in apps.get_models() if issubclass(model, TenantModel)]

#: Columns that say to which dataset, asset or audit a row belongs.
NAMES = {"dataset_id", "asset_id", "audit_id", "audit", "item", "dataset_ids"}
#: Tables with such a column that are not narrowed, and why.
WHOLE = {
    "tombstone": "ids and positions alone, of which the shared index in memory needs every one",
    "facet_change": "ids and positions alone, of which the shared index in memory needs every one",
    "legal_hold": "asked by everybody who erases, also about the whole tenant; its page is for admins",
    "embedding_map": "drawn of the whole tenant; its pages are refused",
    "moderation_record": "ids and digests; sealed as a whole; its pages are refused",
    "hash_entry": "its `item` is of a hash list, and no asset; its pages are refused",
}


@dataclass
class Two:
    """One tenant with two datasets, each with a flagged asset, and a reviewer of the first."""

    seen: World
    hidden: World
    seen_flag: Review
    hidden_flag: Review
    to: Narrowing


@pytest.fixture
def two(party: Party) -> Two:
    seen, hidden = make_world(party), make_world(party)
    flags = [world.flag(("rude",)) for world in (seen, hidden)]
    return Two(seen, hidden, *flags, Narrowing((seen.dataset.id,)))


def _sql(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall()


# --- What the database lets through ---


def test_every_table_that_refers_to_a_dataset_or_asset_is_narrowed() -> None:
    """A new table gets a policy (`NarrowByDataset` in its migration), or a line in WHOLE with its reason."""
    refers = {
        model._meta.db_table
        for model in TENANT_MODELS
        if model is Dataset or NAMES & {field.column for field in model._meta.local_fields}
    }
    # What these name stands in the search that they hold.
    refers |= {"saved_search", "recent_search", "standing_query"}
    rows = _sql("SELECT tablename, permissive FROM pg_policies WHERE policyname = 'dataset_narrowing'")
    assert {kind for _, kind in rows} == {"RESTRICTIVE"}
    assert {table for table, _ in rows} == refers - set(WHOLE)
    assert set(WHOLE) <= refers
    queues = _sql("SELECT tablename, permissive FROM pg_policies WHERE policyname = 'queue_narrowing'")
    assert sorted(queues) == [("review", "RESTRICTIVE"), ("review_outcome", "RESTRICTIVE")]


def test_a_narrowed_scope_shows_the_rows_of_its_datasets(party: Party, two: Two) -> None:
    with narrowed(two.to), tenant_scope(party.id):
        assert [row.id for row in Dataset.objects.all()] == [two.seen.dataset.id]
        assert {row.dataset_id for row in Asset.objects.all()} == {two.seen.dataset.id}
        assert [row.id for row in Review.objects.all()] == [two.seen_flag.id]
        assert [row.id for row in Audit.objects.all()] == [two.seen_flag.audit_id]
    with tenant_scope(party.id):
        assert Review.objects.count() == 2


def test_a_narrowing_to_nothing_shows_nothing(party: Party, two: Two) -> None:
    with narrowed(Narrowing(())), tenant_scope(party.id):
        assert not Dataset.objects.exists()
        assert not Asset.objects.exists()
        assert not Audit.objects.exists()


def test_queues_narrow_flags_and_decisions_alone(party: Party, two: Two) -> None:
    two.seen.flag(("naked",))
    with narrowed(Narrowing(queues=("naked",))), tenant_scope(party.id):
        assert list(Review.objects.values_list("rule", flat=True)) == ["naked"]
        assert Audit.objects.count() == 3
        assert Dataset.objects.count() == 2
    with narrowed(Narrowing(queues=())), tenant_scope(party.id):
        assert not Review.objects.exists()


def test_queues_are_text_and_never_statements(party: Party, two: Two) -> None:
    hostile = ('a","rude', "x'}; DROP TABLE review; --", "{rude}")
    with narrowed(Narrowing(queues=hostile)), tenant_scope(party.id):
        assert not Review.objects.exists()


def test_a_row_of_another_dataset_cannot_be_written(party: Party, two: Two) -> None:
    with tenant_scope(party.id):
        blob = Asset.objects.filter(dataset=two.hidden.dataset)[0].blob_id
        before = Asset.objects.count()
    with narrowed(two.to), pytest.raises((ProgrammingError, InternalError)), tenant_scope(party.id):
        Asset.objects.create(dataset_id=two.hidden.dataset.id, blob_id=blob, modality="text")
    with narrowed(two.to), tenant_scope(party.id):
        assert Asset.objects.filter(dataset_id=two.hidden.dataset.id).update(caption="mine") == 0
    with tenant_scope(party.id):
        assert Asset.objects.count() == before
        assert not Asset.objects.filter(caption="mine").exists()


def test_a_narrowing_holds_inside_an_open_scope_and_ends_with_it(party: Party, two: Two) -> None:
    with tenant_scope(party.id):
        with narrowed(two.to):
            assert Dataset.objects.count() == 1
            with whole_tenant():
                assert (Dataset.objects.count(), narrowing()) == (2, None)
            assert Dataset.objects.count() == 1
        assert Dataset.objects.count() == 2


def test_an_error_while_it_is_lifted_leaves_it_as_it_was(party: Party, two: Two) -> None:
    with narrowed(two.to), tenant_scope(party.id):
        with pytest.raises(NotFound), whole_tenant():
            raise NotFound("gone")
        assert (Dataset.objects.count(), narrowing()) == (1, two.to)
        with pytest.raises(ProgrammingError), whole_tenant():
            _sql("SELECT nothing FROM nowhere")
        assert Dataset.objects.count() == 1


def test_it_does_not_outlive_the_scope_inside_an_outer_transaction(party: Party, two: Two) -> None:
    from django.db import transaction

    with transaction.atomic():
        with narrowed(two.to), tenant_scope(party.id):
            assert Dataset.objects.count() == 1
        with tenant_scope(party.id):
            assert Dataset.objects.count() == 2


def test_without_a_narrowing_no_row_is_looked_up_for_a_policy(party: Party, two: Two) -> None:
    """The policies read settings once a statement (InitPlan) and call their functions for nobody."""
    with tenant_scope(party.id):
        plan = "\n".join(
            line for (line,) in _sql("EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) SELECT * FROM facet")
        )
        calls = _sql("SELECT current_setting('app.datasets', true)")
    assert "InitPlan" in plan
    assert "SubPlan" not in plan
    assert calls in ([(None,)], [("",)])


def test_prepared_statements_are_narrowed_in_a_scope_and_without_one(party: Party, two: Two) -> None:
    with tenant_scope(party.id):
        seen, hidden = (list(Asset.objects.filter(dataset=world.dataset)) for world in (two.seen, two.hidden))
        Asset.objects.update(moderation="")
    ids = [asset.id for asset in (*seen, *hidden)]
    with narrowed(two.to):
        assert set(hydrate(party.id, ids)) == {asset.id for asset in seen}
        with tenant_scope(party.id):
            assert set(hydrate(party.id, ids)) == {asset.id for asset in seen}
    assert set(hydrate(party.id, ids)) == set(ids)


# --- Searches ---


def _embedded(party: Party, world: World, text: str) -> uuid.UUID:
    from tenants.pipeline.assets.services import add_asset
    from workers.base import run_job

    with tenant_scope(party.id):
        added = add_asset(dataset_id=world.dataset.id, text=text)
    assert added.job is not None
    run_job(str(added.job.id), str(party.id))
    return added.asset.id


@pytest.fixture
def kettles(party: Party, two: Two) -> tuple[uuid.UUID, uuid.UUID]:
    """Of the dataset that is seen, and of the other one."""
    return tuple(  # type: ignore[return-value]
        _embedded(party, world, f"A red kettle on a stove, number {n}")
        for n, world in enumerate((two.seen, two.hidden))
    )


def _found(party: Party, **query: Any) -> set[uuid.UUID]:
    answer = search(tenant_id=party.id, query=Query(text="a red kettle", **query))
    return {asset.id if isinstance(asset, Asset) else uuid.UUID(asset.id) for asset, _ in answer.results}


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_search_finds_in_the_datasets_that_are_seen(
    party: Party, two: Two, kettles: tuple[uuid.UUID, uuid.UUID], hybrid: bool
) -> None:
    with narrowed(two.to):
        assert _found(party, hybrid=hybrid) == {kettles[0]}
    assert _found(party, hybrid=hybrid) == set(kettles)


def test_neither_caches_nor_the_index_in_memory_cross_narrowings(
    party: Party, two: Two, kettles: tuple[uuid.UUID, uuid.UUID]
) -> None:
    """Whoever asks first loads what all share; each gets an answer of their own."""
    with narrowed(two.to):
        assert _found(party) == {kettles[0]}  # loads the index
    assert _found(party) == set(kettles)
    with narrowed(Narrowing((two.hidden.dataset.id,))):
        assert _found(party) == {kettles[1]}
    with narrowed(Narrowing(())):
        assert _found(party) == set()


def test_counts_of_a_narrowed_search_are_of_what_is_seen(
    party: Party, two: Two, kettles: tuple[uuid.UUID, uuid.UUID]
) -> None:
    with narrowed(two.to):
        answer = search(tenant_id=party.id, query=Query(text="a red kettle"))
    assert answer.meta["total_candidates"] == 1


def test_another_dataset_or_asset_in_a_query_is_absent(
    party: Party, two: Two, kettles: tuple[uuid.UUID, uuid.UUID]
) -> None:
    with narrowed(two.to):
        with pytest.raises(NotFound):
            _found(party, datasets=[two.hidden.dataset.id])
        with pytest.raises(NotFound):
            _found(party, like=[kettles[1]])


def test_a_cursor_of_who_sees_more_has_expired(
    party: Party, two: Two, kettles: tuple[uuid.UUID, uuid.UUID]
) -> None:
    answer = search(tenant_id=party.id, query=Query(text="a red kettle", top_k=1))
    assert answer.next is not None
    with narrowed(two.to), pytest.raises(CursorExpired):
        search(tenant_id=party.id, query=Query(cursor=answer.next, top_k=1))
    assert len(search(tenant_id=party.id, query=Query(cursor=answer.next, top_k=1)).results) == 1


# --- Reviews ---


def test_a_narrowed_reviewer_claims_and_decides_what_they_see(party: Party, two: Two) -> None:
    with narrowed(two.to), tenant_scope(party.id):
        with pytest.raises(NotFound):
            queue.claim(review_id=two.hidden_flag.id, actor=ANN)
        taken = queue.claim_next(actor=ANN)
        assert taken is not None
        assert taken.id == two.seen_flag.id
        assert queue.claim_next(actor=BOB) is None
        outcome = reviews.decide_review(review_id=taken.id, decision="block", reason="Rude.", actor=ANN)
    with tenant_scope(party.id):
        assert Outcome.objects.get().id == outcome.id
        assert Review.objects.get(pk=two.hidden_flag.id).state == "open"
    assert [line.kind for line in two.seen.lines()] == [record.REVIEW_DECIDED]
    assert two.seen.stands(_audit(party, two.seen_flag))[0] == "block"
    assert two.hidden.stands(_audit(party, two.hidden_flag))[0] != "block"


def _audit(party: Party, flag: Review) -> Audit:
    with tenant_scope(party.id):
        return Audit.objects.get(pk=flag.audit_id)


def test_a_flag_of_another_queue_still_holds_the_item(party: Party, two: Two) -> None:
    """Who sees one queue decides its flag; the item stands at what all its flags say together."""
    audit = two.seen.audit(("rude", "naked"))
    flag = two.seen.flags(audit)["rude"]
    with narrowed(Narrowing(queues=("rude",))), tenant_scope(party.id):
        queue.claim(review_id=flag.id, actor=ANN)
        reviews.decide_review(review_id=flag.id, decision="allow", reason="Fine.", actor=ANN)
    assert two.seen.stands(audit)[0] == "review"
    assert two.seen.flags(audit)["naked"].state == "open"


def test_an_appeal_is_not_decided_by_who_decided_in_a_queue_that_they_do_not_see_any_more(
    party: Party, two: Two
) -> None:
    with tenant_scope(party.id):
        queue.claim(review_id=two.seen_flag.id, actor=ANN)
        reviews.decide_review(review_id=two.seen_flag.id, decision="block", reason="Rude.", actor=ANN)
        reviews.open_appeal(audit_id=two.seen_flag.audit_id, reason="It is not.", actor=BOB)
        appeal = Review.objects.get(kind="appeal")
    with narrowed(Narrowing(queues=("appeal",))), tenant_scope(party.id):
        assert queue.claim_next(actor=ANN) is None
        with pytest.raises(NotAllowed):
            queue.claim(review_id=appeal.id, actor=ANN)
        taken = queue.claim_next(actor=BOB)
        assert taken is not None
        assert taken.id == appeal.id


def test_a_decision_about_copies_is_not_undone_by_who_sees_a_part(party: Party, two: Two) -> None:
    with tenant_scope(party.id):
        queue.claim(review_id=two.seen_flag.id, actor=ANN)
        outcome = reviews.decide_review(
            review_id=two.seen_flag.id, decision="block", reason="Rude.", actor=ANN, block_copies=True
        )
    with narrowed(two.to), tenant_scope(party.id), pytest.raises(NotAllowed):
        reviews.undo_outcome(outcome_id=outcome.id, actor=ANN, reason="No.")
    assert two.seen.stands(_audit(party, two.seen_flag))[0] == "block"


def test_blocking_copies_is_for_who_sees_all(party: Party, two: Two) -> None:
    with narrowed(two.to), tenant_scope(party.id):
        queue.claim(review_id=two.seen_flag.id, actor=ANN)
        with pytest.raises(NotAllowed):
            reviews.decide_review(
                review_id=two.seen_flag.id, decision="block", reason="Rude.", actor=ANN, block_copies=True
            )
        assert not Outcome.objects.exists()


def test_bulk_decisions_reach_what_is_seen(party: Party, two: Two) -> None:
    wanted = bulk.Filter(rule="rude")
    with narrowed(two.to), tenant_scope(party.id):
        assert bulk.preview(wanted=wanted, decision="allow", actor=ANN).count == 1
        done = bulk.apply(wanted=wanted, decision="allow", reason="Fine.", actor=ANN)
    assert (done.decided, done.left) == (1, 0)
    with tenant_scope(party.id):
        assert Review.objects.get(pk=two.hidden_flag.id).state == "open"
    with narrowed(two.to):
        undone = reviews.undo_batch(tenant_id=party.id, batch=done.batch, actor=ANN, reason="Too fast.")
    assert (undone.undone, undone.left) == (1, ())


# --- Who decides about it ---


def _owner(party: Party) -> Actor:
    return acting(party.tenant, party.owner)


def test_narrowing_a_member_stands_in_the_log_and_can_be_lifted(party: Party, two: Two) -> None:
    reviewer = new_member(party.tenant, "reviewer")
    to = Narrowing((two.seen.dataset.id,), ("rude",))
    with tenant_scope(party.id):
        narrow_member(actor=_owner(party), user_id=reviewer.pk, to=to)
    member = Membership.objects.get(tenant=party.tenant, user=reviewer)
    assert narrowing_of(member) == to
    with tenant_scope(party.id):
        narrow_member(actor=_owner(party), user_id=reviewer.pk, to=None)
        lines = list(AuditEvent.objects.filter(verb="member.narrowed").order_by("id"))
    member.refresh_from_db()
    assert narrowing_of(member) is None
    first = {"datasets": [str(two.seen.dataset.id)], "queues": ["rude"]}
    nothing = {"datasets": None, "queues": None}
    assert [line.details for line in lines] == [
        {"from": nothing, "to": first, "keys_revoked": []},
        {"from": first, "to": nothing, "keys_revoked": []},
    ]


def test_an_owner_or_admin_is_not_narrowed(party: Party, two: Two) -> None:
    admin = new_member(party.tenant, "admin")
    with tenant_scope(party.id), pytest.raises(Invalid):
        narrow_member(actor=_owner(party), user_id=admin.pk, to=two.to)
    assert Membership.objects.get(tenant=party.tenant, user=admin).datasets is None


@pytest.mark.parametrize("role", ["editor", "reviewer", "viewer"])
def test_only_who_manages_people_narrows_them(party: Party, two: Two, role: str) -> None:
    person, target = new_member(party.tenant, role), new_member(party.tenant, "reviewer")
    with tenant_scope(party.id), pytest.raises(NotAllowed):
        narrow_member(actor=acting(party.tenant, person), user_id=target.pk, to=two.to)
    assert Membership.objects.get(tenant=party.tenant, user=target).datasets is None


@pytest.mark.parametrize("to", [Narrowing(()), Narrowing(queues=()), Narrowing(queues=("",))])
def test_a_member_is_not_narrowed_to_nothing(party: Party, to: Narrowing) -> None:
    reviewer = new_member(party.tenant, "reviewer")
    with tenant_scope(party.id), pytest.raises(Invalid):
        narrow_member(actor=_owner(party), user_id=reviewer.pk, to=to)


def test_keys_of_who_is_narrowed_end_and_none_are_made(party: Party, two: Two) -> None:
    person = new_member(party.tenant, "reviewer")
    with tenant_scope(party.id):
        key, _ = keys.create_key(name="mine", scopes=["read"], created_by=person)
        ended = narrow_member(actor=_owner(party), user_id=person.pk, to=two.to)
        assert [one.id for one in ended] == [key.id]
        with pytest.raises(NotAllowed):
            keys.create_key(name="another", scopes=["read"], created_by=person)
    assert KeyDigest.objects.get(key_id=key.id).revoked_at is not None


def test_a_narrowing_stays_with_a_change_of_role(party: Party, two: Two) -> None:
    """An admin sees all, and keys that they made then end with the role."""
    person = new_member(party.tenant, "reviewer")
    program = Actor("key:idp", "admin")
    with tenant_scope(party.id):
        narrow_member(actor=_owner(party), user_id=person.pk, to=two.to)
        member = members.change_role(actor=program, user_id=person.pk, role="viewer")
        assert narrowing_of(member) == two.to
        member = members.change_role(actor=program, user_id=person.pk, role="admin")
        assert narrowing_of(member) is None
        key, _ = keys.create_key(name="mine", scopes=["read"], created_by=person)
        member = members.change_role(actor=program, user_id=person.pk, role="reviewer")
        assert narrowing_of(member) == two.to
    assert KeyDigest.objects.get(key_id=key.id).revoked_at is not None


def test_an_invitation_brings_its_narrowing(party: Party, two: Two) -> None:
    person = new_user()
    with tenant_scope(party.id):
        invited = invitations.invite(actor=_owner(party), email=person.email, role="reviewer", to=two.to)
        with pytest.raises(Invalid):
            invitations.invite(actor=_owner(party), email="a@people.example", role="admin", to=two.to)
    from tenants.accounts import links

    invitations.accept(digest=links.digest(token_of(invited.link)), user=person)
    assert narrowing_of(Membership.objects.get(tenant=party.tenant, user=person)) == two.to


def test_who_is_narrowed_follows_no_job(party: Party, two: Two, client: Any) -> None:
    person = new_member(party.tenant, "reviewer")
    client.force_login(person)
    watcher = by_session(client.session.session_key)
    assert may_watch(watcher, party.id)
    with tenant_scope(party.id):
        narrow_member(actor=_owner(party), user_id=person.pk, to=two.to)
    assert not may_watch(watcher, party.id)
    with tenant_scope(party.id):
        narrow_member(actor=_owner(party), user_id=person.pk, to=None)
    assert may_watch(watcher, party.id)
