"""Several hosts on one Postgres and one bucket: each serves every tenant, and none keeps what is erased."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.core.files.storage import default_storage
from django.utils import timezone

from tenants.datasets import storage
from tenants.events.models import TenantErasure
from tenants.jobs import nodes
from tenants.jobs.models import Job, Node, NodeErasure
from tenants.pipeline.care import tenant_erasure
from tenants.retrieval.index import generation_files, lifecycle
from tenants.retrieval.models import IndexGeneration
from tenants.scope import tenant_scope
from tests.tenants.host_process import HostProcess
from tests.tenants.test_index_lifecycle import MODEL, Library, unit
from tests.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_hosts() -> Iterator[None]:
    Node.objects.all().delete()
    yield
    Node.objects.all().delete()


@pytest.fixture
def library(party, settings) -> Library:
    # How long a fetch takes here says nothing: a search that gives up on it answers without the index, and rightly.
    settings.INDEX_FLAT_MAX, settings.INDEX_FETCH_WAIT_S = 10, 60
    library = Library(party)
    library.fill(12)
    return library


@pytest.fixture(scope="module")
def processes(s3_endpoint: str, tmp_path_factory) -> Iterator[list[HostProcess]]:
    env = {
        "STORAGE_URL": "s3://crosslight/prefix",
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        # Nobody is answered without an index.
        "INDEX_FLAT_MAX": "10",
        "INDEX_EXACT_MAX": "5",
        "INDEX_FETCH_WAIT_S": "60",
    }
    top = tmp_path_factory.mktemp("hosts")
    with HostProcess(top / "b", **env) as b, HostProcess(top / "c", **env) as c:
        yield [b, c]


@pytest.fixture
def hosts(bucket: str, processes: list[HostProcess]) -> list[HostProcess]:
    """B and C; the test's own process is A."""
    return processes


def jobs_of(library: Library) -> list[str]:
    with tenant_scope(library.tenant_id):
        return list(Job.objects.filter(kind=lifecycle.JOB).order_by("id").values_list("state", flat=True))


def found_at(host: HostProcess, library: Library, seed: int = 3) -> tuple[list[str], str | None]:
    answer = host.ask("search", tenant=library.tenant_id, model=MODEL, query=unit(seed).tolist())
    return answer.get("ids", []), answer.get("generation")


def right(library: Library, seed: int = 3) -> list[str]:
    return [str(one) for one in library.truth(seed)]


@pytest.mark.proof(1)
def test_one_build_serves_every_host(library: Library, hosts: list[HostProcess]) -> None:
    library.build()
    current = str(library.pointer.current_id)
    for host in hosts:
        assert found_at(host, library) == (right(library), current)
        assert host.folders(library.tenant_id) == {current}
    assert jobs_of(library) == ["succeeded"]
    # Published while they serve the one before, it is fetched ahead, and nobody waits.
    b, c = hosts
    b.ask("start_upkeep")
    until(lambda: len(nodes.live()) == 1)
    library.put(700)
    library.build()
    newer = str(library.pointer.current_id)
    until(lambda: b.folders(library.tenant_id) == {current, newer})
    for host in (b, c):
        ids, generation = found_at(host, library, 700)
        assert (ids, generation in (current, newer)) == (right(library, 700), True)
        until(lambda host=host: found_at(host, library, 700) == (right(library, 700), newer))
    # What is retired leaves the disks of others.
    library.build()
    until(lambda: current not in b.folders(library.tenant_id))
    assert set(jobs_of(library)) == {"succeeded"}


@pytest.mark.proof(8)
def test_a_cache_that_is_wiped_is_fetched_and_a_stored_file_that_is_corrupted_built_once(
    library: Library, hosts: list[HostProcess]
) -> None:
    library.build()
    generation = library.pointer.current
    b = hosts[0]
    assert found_at(b, library) == (right(library), str(generation.pk))
    shutil.rmtree(b.data_dir / "indexes")
    b.ask("forget")
    assert found_at(b, library) == (right(library), str(generation.pk))
    assert jobs_of(library) == ["succeeded"]
    path = generation_files.path_of(library.tenant_id, generation.pk, "vectors.f32")
    content = storage.open_blob(path).read()
    default_storage.delete(path)
    storage.put(path, content[:-9] + bytes(byte ^ 1 for byte in content[-9:]))
    shutil.rmtree(b.data_dir / "indexes")
    b.ask("forget")
    # Both find it at once, and again and again.
    for _ in range(3):
        asking = [threading.Thread(target=found_at, args=(host, library)) for host in hosts]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
    until(lambda: jobs_of(library) == ["succeeded", "queued"])
    with tenant_scope(library.tenant_id):
        assert IndexGeneration.objects.get(pk=generation.pk).state == "failed"
        job = Job.objects.get(kind=lifecycle.JOB, state="queued")
    library.run(job)
    built = str(library.pointer.current_id)
    for host in hosts:
        until(lambda host=host: found_at(host, library) == (right(library), built))
    assert jobs_of(library) == ["succeeded", "succeeded"]


def test_another_host_builds_and_this_one_serves(library: Library, hosts: list[HostProcess]) -> None:
    with tenant_scope(library.tenant_id):
        job = lifecycle.build(model=MODEL)
    hosts[0].ask("run_job", job=job.id, tenant=library.tenant_id)
    assert jobs_of(library) == ["succeeded"]
    assert library.folders == set()
    assert library.agrees(1, 2)
    assert library.base_id == library.pointer.current_id


@pytest.mark.proof(9)
def test_an_erased_tenant_is_gone_from_every_host_before_the_receipt(
    library: Library, hosts: list[HostProcess], party, monkeypatch
) -> None:
    library.build()
    for host in hosts:
        found_at(host, library)
        (host.data_dir / "learning" / str(party.id)).mkdir(parents=True)
        (host.data_dir / "learning" / str(party.id) / "shard").write_bytes(b"x")
        assert host.files_of(party.id)
    b, c = hosts
    b.ask("start_upkeep")
    until(lambda: len(nodes.live()) == 1)
    # C was there lately, and is off.
    Node.objects.create(name="off", seen_at=timezone.now() - timedelta(hours=1))
    sign, left = tenant_erasure._sign, []

    def signed(receipt: TenantErasure) -> TenantErasure:
        left.append(b.files_of(party.id))
        return sign(receipt)

    monkeypatch.setattr(tenant_erasure, "_sign", signed)
    receipt = tenant_erasure.erase_tenant(slug=party.tenant.slug)
    assert left == [[]]
    assert receipt.remains["confirmed_by"] == [nodes.live()[0].name]
    assert [p["where"] for p in receipt.remains["places"]][-1].startswith("host off, off since ")
    assert not NodeErasure.objects.filter(erased_tenant=party.id).exists()
    # It comes back, and looks first.
    assert c.files_of(party.id)
    c.ask("start_upkeep")
    until(lambda: c.files_of(party.id) == [])
