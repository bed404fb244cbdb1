"""What a host does for itself: it says that it lives, hears what is told, and lets go what it need not keep."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.utils import timezone

from tenants.errors import Conflict
from tenants.events.models import TenantErasure
from tenants.jobs import nodes
from tenants.jobs.models import Node
from tenants.pipeline.care import tenant_erasure
from tenants.pipeline.upkeep import host as host_upkeep
from tenants.pipeline.upkeep.host import HostUpkeep
from tenants.retrieval.index import lifecycle
from tenants.retrieval.index.generation_files import folder_of
from tests.tenants.test_index_lifecycle import Library
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_hosts() -> Iterator[None]:
    Node.objects.all().delete()
    yield
    Node.objects.all().delete()


@pytest.fixture
def library(party, settings) -> Library:
    settings.INDEX_FLAT_MAX = 10
    library = Library(party)
    library.fill(12)
    return library


def test_a_host_that_lives_and_does_not_confirm_keeps_the_receipt_open(party, monkeypatch) -> None:
    silent = Node.objects.create(name="silent", seen_at=timezone.now() + timedelta(minutes=5))
    monkeypatch.setattr(tenant_erasure, "SETTLES_S", 0.0)
    monkeypatch.setattr(tenant_erasure, "CONFIRM_S", 0.2)
    with pytest.raises(Conflict, match="silent"):
        tenant_erasure.erase_tenant(slug=party.tenant.slug)
    assert TenantErasure.objects.get(erased_tenant=party.id).finished_at is None
    # It went for good: what it holds goes when it comes back, and the receipt says so.
    Node.objects.filter(pk=silent.pk).update(seen_at=timezone.now() - timedelta(hours=1))
    receipt = tenant_erasure.erase_tenant(slug=party.tenant.slug)
    assert receipt.verified
    assert [p["where"] for p in receipt.remains["places"]][-1].startswith("host silent, off since ")


# --- This host -------------------------------------------------------------------------------------------


def test_a_host_is_its_data_directory(tmp_path: Path, monkeypatch) -> None:
    first = nodes._id_in(tmp_path)
    assert nodes._id_in.__wrapped__(tmp_path) == first
    # Copied to another machine it is another host.
    monkeypatch.setattr(nodes.platform, "node", lambda: "elsewhere")
    assert nodes._id_in.__wrapped__(tmp_path) != first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node.json"]


def test_hosts_live_and_are_forgotten() -> None:
    nodes.beat()
    assert [one.pk for one in nodes.live()] == [nodes.own_id()]
    assert nodes.lost() == []
    Node.objects.update(seen_at=timezone.now() - timedelta(seconds=nodes.LOST_S + 1))
    assert (nodes.live(), [one.pk for one in nodes.lost()]) == ([], [nodes.own_id()])
    assert nodes.forget_lost() == 0
    Node.objects.update(seen_at=timezone.now() - nodes.FORGET - timedelta(seconds=1))
    assert nodes.forget_lost() == 1


def test_of_the_processes_of_a_host_one_acts() -> None:
    with host_upkeep.acting() as first, host_upkeep.acting() as second:
        assert (first, second) == (True, False)
    with host_upkeep.acting() as again:
        assert again


def test_what_is_told_is_heard_and_what_cannot_be_read_is_passed_over() -> None:
    listener, told = nodes.Listener(), nodes.Told(nodes.PUBLISHED, uuid.uuid4(), uuid.uuid4())
    assert listener.heard(0.01) == []
    nodes.client().publish(nodes.CHANNEL, b"{}")
    nodes.client().publish(nodes.CHANNEL, b"\xff")
    nodes.tell(told.what, told.tenant_id, told.generation_id)
    assert listener.heard(5) == [told]
    listener.close()


def test_a_host_fetches_ahead_only_for_tenants_that_it_searches(library: Library) -> None:
    library.build()
    generation = library.pointer.current_id
    lifecycle.let_go(library.tenant_id, generation)
    assert not lifecycle.fetch_ahead(library.tenant_id, generation)
    assert library.folders == set()
    assert library.agrees(1)
    library.build()
    newer = library.pointer.current_id
    lifecycle.let_go(library.tenant_id, newer)
    HostUpkeep()._do(nodes.Told(nodes.PUBLISHED, library.tenant_id, newer))
    until(lambda: str(newer) in library.folders)
    assert (folder_of(library.tenant_id, newer) / "manifest.json").exists()
    # What it has is not fetched again.
    assert not lifecycle.fetch_ahead(library.tenant_id, newer)


def test_upkeep_of_a_host_survives_a_database_and_a_cache_that_are_away(monkeypatch) -> None:
    upkeep, seen = HostUpkeep(), []
    monkeypatch.setattr(nodes, "BEAT_S", 0.01)

    def away(*args: object) -> None:
        seen.append(args)
        raise nodes.Unavailable("away")

    monkeypatch.setattr(nodes, "beat", away)
    monkeypatch.setattr(upkeep._listener, "heard", away)
    upkeep._act_once()
    upkeep._act_once()
    assert len(seen) == 4


def test_a_host_looks_through_its_files_again_when_it_may_have_missed_a_message(monkeypatch) -> None:
    upkeep, heard, looked = (
        HostUpkeep(),
        [[], [], nodes.Unavailable("away"), nodes.Unavailable("away"), [], []],
        [],
    )
    monkeypatch.setattr(nodes, "BEAT_S", 0.01)
    monkeypatch.setattr(host_upkeep, "look_through", lambda: looked.append(len(heard)))

    def hear(_: float) -> list[nodes.Told]:
        told = heard.pop(0)
        if isinstance(told, Exception):
            raise told
        return told

    monkeypatch.setattr(upkeep._listener, "heard", hear)
    while heard:
        upkeep._act_once()
    # At its start, and once after Valkey was away.
    assert looked == [5, 1]


def test_only_folders_of_erased_tenants_are_left_behind(library: Library, party) -> None:
    library.build()
    unknown = configured.DATA_DIR / "learning" / str(uuid.uuid4())
    unknown.mkdir(parents=True)
    assert tenant_erasure.erase_left_behind() == 0
    assert library.folders
    # Of another database, perhaps: not ours to remove.
    assert unknown.exists()
    unknown.rmdir()
