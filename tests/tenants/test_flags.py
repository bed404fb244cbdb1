"""Feature flags: who has one, and who may set it how."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tenants.accounts import flags
from tenants.accounts.models import FeatureFlag, OperatorAct
from tenants.accounts.operators import Operator
from tenants.errors import Invalid, NotFound

ANN = Operator("ann@operators.example", "127.0.0.1")
NAME = "test-flag"


@pytest.fixture(autouse=True)
def flag(monkeypatch: Any) -> Iterator[None]:
    monkeypatch.setitem(flags.FLAGS, NAME, flags.Flag(NAME, "For tests.", default=False))
    flags.forget()
    yield
    FeatureFlag.objects.filter(name=NAME).delete()
    flags.forget()


def test_a_flag_that_nobody_set_has_its_default(party: Any, monkeypatch: Any) -> None:
    assert not flags.enabled(NAME, party.id)
    monkeypatch.setitem(flags.FLAGS, NAME, flags.Flag(NAME, "", default=True))
    assert flags.enabled(NAME, party.id)
    with pytest.raises(KeyError):
        flags.enabled("never-declared", party.id)


def test_on_off_and_reset(party: Any) -> None:
    flags.set_flag(by=ANN, name=NAME, state="on")
    assert flags.enabled(NAME, party.id)
    flags.set_flag(by=ANN, name=NAME, state="off", share=100)
    assert not flags.enabled(NAME, str(party.id))
    flags.reset_flag(by=ANN, name=NAME)
    assert not FeatureFlag.objects.filter(name=NAME).exists()


def test_chosen_tenants_have_it_and_others_do_not(party: Any, stranger: Any) -> None:
    flags.set_flag(by=ANN, name=NAME, state="some", slugs=[party.tenant.slug])
    assert (flags.enabled(NAME, party.id), flags.enabled(NAME, stranger.id)) == (True, False)


def test_a_share_is_stable_grows_and_differs_by_flag() -> None:
    ids = [uuid.UUID(int=n) for n in range(2000)]
    tenth = {i for i in ids if flags.Setting("some", 10).holds_for("a", i)}
    third = {i for i in ids if flags.Setting("some", 33).holds_for("a", i)}
    assert tenth < third
    assert 140 < len(tenth) < 260
    assert tenth != {i for i in ids if flags.Setting("some", 10).holds_for("b", i)}
    assert all(flags.Setting("some", 100).holds_for("a", i) for i in ids)


def test_what_is_refused_changes_nothing(party: Any) -> None:
    flags.set_flag(by=ANN, name=NAME, state="some", share=5)
    for wrong in (
        {"state": "maybe"},
        {"state": "some", "share": 101},
        {"state": "some", "slugs": ["nobody-x"]},
    ):
        with pytest.raises(Invalid):
            flags.set_flag(by=ANN, name=NAME, **wrong)
    with pytest.raises(NotFound):
        flags.set_flag(by=ANN, name="never-declared", state="on")
    with pytest.raises(NotFound):
        flags.reset_flag(by=ANN, name="never-declared")
    assert flags.settings()[NAME] == flags.Setting("some", 5)


def test_every_change_is_in_the_operators_log(party: Any) -> None:
    flags.set_flag(by=ANN, name=NAME, state="some", share=5, slugs=[party.tenant.slug], reason="pilot")
    act = OperatorAct.objects.filter(target=NAME).latest("id")
    assert (act.actor, act.verb, act.reason) == (ANN.email, "flag.set", "pilot")
    assert act.details == {"state": "some", "share": 5, "tenants": [party.tenant.slug]}


def test_a_process_asks_the_database_now_and_then(party: Any, monkeypatch: Any) -> None:
    assert not flags.enabled(NAME, party.id)
    FeatureFlag.objects.create(name=NAME, state="on")
    assert not flags.enabled(NAME, party.id)
    later = flags.time.monotonic() + flags.CACHE_S + 1
    monkeypatch.setattr(flags.time, "monotonic", lambda: later)
    assert flags.enabled(NAME, party.id)
