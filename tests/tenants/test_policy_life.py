"""Versions, what is in force, shares, shadows, rolling back: also by many at once, and apart for each tenant."""

from __future__ import annotations

import threading
import uuid
from typing import Any

import pytest
from django.db import ProgrammingError, connection, transaction
from django.db.utils import IntegrityError

from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.models import AuditEvent
from tenants.moderation import shapes
from tenants.moderation.models import Policy, PolicyActivation, PolicyVersion, Record, ShadowDecision
from tenants.moderation.policies import selectors
from tenants.moderation.policies import services as policies
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.policy_world import category, document, evidence, new_audit, new_policy, rule

SHA = "ab" * 32
NEVER, SOME, ALL = (rule("r", when, "block") for when in ("strikes > 9", "categories.abuse.flagged", "true"))


def versions(made: Policy) -> list[int]:
    """Versions 1 to 3 of a policy, each stricter than the one before."""
    for strict in (SOME, ALL):
        policies.add_version(policy_id=made.id, document=document(strict))
    return [1, 2, 3]


def force(sha256: str = SHA, **asked: Any) -> tuple[Any, ...] | None:
    found = policies.in_force(modality="image", sha256=sha256, **asked)
    return None if found is None else (found.policy_id, found.number, found.mode)


def act(made: Policy, number: int, mode: str, **more: Any) -> PolicyActivation:
    return policies.activate(policy_id=made.id, number=number, mode=mode, actor="key:x", **more)


# --- Versions ---------------------------------------------------------------------------------------------


def test_the_same_document_is_the_same_version(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(SOME)
        again, new = policies.add_version(policy_id=made.id, document=document({**SOME, "stop": False}))
        assert (again.number, new) == (1, False)
        other, new = policies.add_version(policy_id=made.id, document=document(ALL))
        assert (other.number, new) == (2, True)
        assert made.versions.count() == 2


def test_versions_and_what_was_in_force_cannot_be_changed(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(SOME)
        act(made, 1, "shadow")
        audit = new_audit()
        policies.record_shadow_decisions(audit=audit, evidence=evidence())
    for rows in (PolicyVersion, PolicyActivation, ShadowDecision):
        with (
            tenant_scope(party.id),
            pytest.raises(ProgrammingError, match="permission denied"),
            transaction.atomic(),
        ):
            rows.objects.update(created_at="2020-01-01T00:00:00Z")
        with (
            tenant_scope(party.id),
            pytest.raises(ProgrammingError, match="permission denied"),
            transaction.atomic(),
        ):
            rows.objects.all()._raw_delete("default")


def test_a_name_is_taken_once_and_a_starter_can_be_changed(party: Party) -> None:
    with tenant_scope(party.id):
        made, version = policies.create_policy(
            name="Ours", starter="community", document={"quarantine": True}, actor="key:x"
        )
        assert made.starter == "community"
        assert version.document["quarantine"] is True
        assert len(version.document["rules"]) > 5
        with pytest.raises(Conflict):
            policies.create_policy(name=" Ours ", document=document())
        with pytest.raises(Invalid):
            policies.create_policy(name="x", starter="nothing")
        with pytest.raises(Invalid):
            policies.create_policy(name="\x00", document=document())
        assert Policy.objects.count() == 1
        event = AuditEvent.objects.get(verb="policy.created")
        assert (event.actor, event.target) == ("key:x", str(made.id))


# --- In force ---------------------------------------------------------------------------------------------


def test_a_draft_decides_nothing(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(SOME)
        assert force() is None
        assert force(policy_id=made.id) == (made.id, 1, "shadow")
        assert force(policy_id=uuid.uuid4()) is None


def test_from_shadow_over_a_share_to_all_and_back(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        versions(made)
        act(made, 1, "shadow")
        assert force() == (made.id, 1, "shadow")
        act(made, 1, "enforce")
        assert force() == (made.id, 1, "enforce")
        act(made, 2, "shadow")
        assert force() == (made.id, 1, "enforce")
        act(made, 2, "enforce", ratio=0.25)
        seen = {force(uuid.uuid4().hex) for _ in range(60)}
        assert seen == {(made.id, 1, "enforce"), (made.id, 2, "enforce")}
        act(made, 2, "enforce")
        assert force() == (made.id, 2, "enforce")
        policies.roll_back(policy_id=made.id, actor="key:x")
        assert force() == (made.id, 1, "enforce")
        now, named = selectors.activations_now()
        assert selectors.state_shape(now[made.id], named).shadow == 2
        policies.roll_back(policy_id=made.id)
        assert (force(), named_state(made).shadow) == ((made.id, 1, "enforce"), None)
        policies.roll_back(policy_id=made.id)
        assert force() == (made.id, 1, "shadow")
        with pytest.raises(Conflict):
            policies.roll_back(policy_id=made.id)


def named_state(made: Policy) -> shapes.PolicyState:
    now, named = selectors.activations_now()
    return selectors.state_shape(now.get(made.id), named)


def test_an_item_stays_on_its_side_while_the_share_grows(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        versions(made)
        act(made, 1, "enforce")
        items = [uuid.uuid4().hex for _ in range(400)]
        before: set[str] = set()
        for ratio in (0.1, 0.4, 0.9):
            act(made, 2, "enforce", ratio=ratio)
            inside = {item for item in items if force(item)[1] == 2}
            assert before <= inside
            assert abs(len(inside) / 400 - ratio) < 0.1
            before = inside


def test_a_first_share_leaves_the_others_undecided(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        act(made, 1, "enforce", ratio=0.5)
        assert {force(uuid.uuid4().hex) for _ in range(40)} == {
            (made.id, 1, "enforce"),
            (made.id, 1, "shadow"),
        }


def test_one_policy_decides_and_comes_back_when_its_successor_is_rolled_back(party: Party) -> None:
    with tenant_scope(party.id):
        old, new = new_policy(NEVER), new_policy(ALL)
        act(old, 1, "enforce")
        act(new, 1, "enforce", ratio=0.5)
        assert {force(uuid.uuid4().hex) for _ in range(40)} == {
            (old.id, 1, "enforce"),
            (new.id, 1, "enforce"),
        }
        act(new, 1, "enforce")
        assert (force(), named_state(old).mode) == ((new.id, 1, "enforce"), "off")
        policies.roll_back(policy_id=new.id)
        assert (force(), named_state(new).mode) == ((old.id, 1, "enforce"), "off")
        assert one_enforced()


def one_enforced() -> bool:
    return sum(row.enforced_id is not None for row in policies.newest().values()) <= 1


def test_taking_out_of_force_and_back(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        versions(made)
        act(made, 1, "enforce")
        act(made, 2, "shadow")
        act(made, 2, "off")
        assert (force(), named_state(made).shadow) == ((made.id, 1, "enforce"), None)
        act(made, 1, "off")
        assert force() is None
        policies.roll_back(policy_id=made.id)
        assert force() == (made.id, 1, "enforce")
        with pytest.raises(Conflict):
            act(made, 3, "off")


def test_enforced_can_become_shadow(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        act(made, 1, "enforce")
        act(made, 1, "shadow")
        assert force() == (made.id, 1, "shadow")


def test_what_is_asked_twice_is_done_once(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        assert act(made, 1, "enforce").id == act(made, 1, "enforce").id
        assert PolicyActivation.objects.count() == 1


@pytest.mark.parametrize(
    ("number", "mode", "ratio", "error"),
    [
        (9, "enforce", 1.0, NotFound),
        (1, "enforce", 0.0, Invalid),
        (1, "enforce", 1.1, Invalid),
        (1, "shadow", 0.5, Invalid),
    ],
)
def test_wrong_activations_change_nothing(
    party: Party, number: int, mode: str, ratio: float, error: type[Exception]
) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        with pytest.raises(error):
            act(made, number, mode, ratio=ratio)
        assert not PolicyActivation.objects.exists()
        with pytest.raises(Conflict):
            policies.roll_back(policy_id=made.id)


def test_a_policy_about_some_modalities_decides_about_no_others(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(ALL, modalities=["text"])
        act(made, 1, "enforce")
        assert force() is None
        assert policies.in_force(modality="text", sha256=SHA) is not None


def test_every_change_is_on_the_record(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        versions(made)
        first = act(made, 1, "enforce")
        act(made, 2, "enforce")
        back = policies.roll_back(policy_id=made.id, actor="key:y")
        lines = Record.objects.filter(kind__startswith="policy.").order_by("sequence")
        assert [(line.kind, line.actor) for line in lines] == [
            ("policy.activated", "key:x"),
            ("policy.activated", "key:x"),
            ("policy.rolled_back", "key:y"),
        ]
        assert (lines[0].subject, lines[0].policy_version) == (first.id, first.version_id)
        assert lines[2].subject == back.id
        events = AuditEvent.objects.filter(target=str(made.id)).order_by("id").values_list("verb", flat=True)
        assert list(events)[-3:] == ["policy.activated", "policy.activated", "policy.rolled_back"]


def test_who_decides_is_asked_with_one_query(party: Party, django_assert_num_queries: Any) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        versions(made)
        act(made, 1, "enforce")
        force()
        with django_assert_num_queries(3):
            # A savepoint of the scope, and one query.
            assert force() == (made.id, 1, "enforce")
        act(made, 2, "enforce")
        assert force() == (made.id, 2, "enforce"), "what is in force is never remembered"


# --- Tenancy and concurrency ------------------------------------------------------------------------------


def test_tenants_do_not_meet(party: Party, stranger: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(ALL)
        act(made, 1, "enforce")
        version_id = made.versions.get().id
    with tenant_scope(stranger.id):
        assert force() is None
        assert force(policy_id=made.id) is None
        with pytest.raises(NotFound):
            act(made, 1, "off")
        with pytest.raises(NotFound):
            policies.add_version(policy_id=made.id, document=document())
        with pytest.raises(PolicyVersion.DoesNotExist):
            policies._version(stranger.id, version_id)
        mine = new_policy(NEVER)
        row = PolicyActivation(
            policy=mine, number=1, version=mine.versions.get(), mode="enforce", enforced_id=version_id
        )
    with pytest.raises(IntegrityError), tenant_scope(stranger.id):
        row.save(force_insert=True)


def test_many_activations_at_once_leave_one_policy_enforced(party: Party) -> None:
    with tenant_scope(party.id):
        made = [new_policy(NEVER) for _ in range(3)]
        for one in made:
            versions(one)
    problems: list[BaseException] = []
    start = threading.Barrier(9)

    def work(place: int) -> None:
        try:
            start.wait()
            for step in range(4):
                with tenant_scope(party.id):
                    if step == 3 and place % 3 == 0:
                        policies.roll_back(policy_id=made[place % 3].id)
                    else:
                        act(made[place % 3], (place + step) % 3 + 1, "enforce", ratio=(0.3, 1.0)[step % 2])
        except Conflict:
            pass
        except BaseException as error:
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(place,)) for place in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    with tenant_scope(party.id):
        numbers = list(PolicyActivation.objects.order_by("number").values_list("number", flat=True))
        assert numbers == list(range(1, len(numbers) + 1))
        assert one_enforced()
        assert force() is not None


def test_the_same_version_added_by_many_is_one(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
    found: list[int] = []

    def add() -> None:
        with tenant_scope(party.id):
            found.append(policies.add_version(policy_id=made.id, document=document(ALL))[0].number)
        connection.close()

    threads = [threading.Thread(target=add) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [2] * 6


# --- Shadows ----------------------------------------------------------------------------------------------


def test_shadows_are_kept_beside_the_audit_and_compared(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        versions(made)
        act(made, 1, "enforce")
        act(made, 2, "shadow")
        other = new_policy(ALL)
        act(other, 1, "shadow")
        abusive = evidence(categories={"abuse": category(0.9)})
        audits = [new_audit(found) for found in (evidence(), abusive, abusive)]
        for audit, found in zip(audits, (evidence(), abusive, abusive), strict=True):
            assert policies.record_shadow_decisions(audit=audit, evidence=found) == 2
            policies.record_shadow_decisions(audit=audit, evidence=found)
        compared = selectors.compare_shadow(made.versions.get(number=2))
        assert (compared.audits, compared.changed) == (3, 2)
        assert compared.changes == [
            shapes.PolicyChange(from_="allow", to="allow", count=1),
            shapes.PolicyChange(from_="allow", to="block", count=2),
        ]
        assert [sample.audit for sample in compared.samples] == [str(audits[2].id), str(audits[1].id)]
        assert compared.samples[0].rules == ["r"]
        assert selectors.compare_shadow(other.versions.get()).changed == 3


def test_a_version_enforced_for_others_is_a_shadow_here(party: Party) -> None:
    with tenant_scope(party.id):
        made = new_policy(NEVER)
        versions(made)
        act(made, 1, "enforce")
        act(made, 3, "enforce", ratio=0.5)
        numbers = set()
        for _ in range(30):
            audit = new_audit()
            decides = policies.in_force(modality="image", sha256=audit.sha256)
            assert decides is not None
            audit.policy_version = decides.version_id
            noted = policies.record_shadow_decisions(audit=audit, evidence=evidence())
            numbers.add((decides.number, noted))
        assert numbers == {(1, 1), (3, 0)}
