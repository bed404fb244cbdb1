"""Indexes on a stack whose processes are killed and whose files are lost or damaged while clients write and search.

Two clients do so through the whole module; every test ends with a comparison of what they were told and what is there.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from standalone.stack import Stack, running_stack
from tests.flows.index_world import ENV, LARGE, PATIENCE_S, Workspace, World
from tests.flows.ledger import text_of
from tests.waiting import pause

pytestmark = [pytest.mark.stack, pytest.mark.slow]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # A worker is stopped here for longer than the supervisor would let it.
    env = {**ENV, "PROBE_INTERVAL_S": "0"}
    with running_stack(tmp_path_factory.mktemp("faulty"), extra_env=env) as running:
        yield running


@pytest.fixture(scope="module")
def world(faulty: Stack) -> Iterator[World]:
    made = World(faulty)
    made.writer.start()
    made.searcher.start()
    yield made
    made.writer.end()
    made.searcher.end()


# --- Processes that die ----------------------------------------------------------------------------------


def test_a_builder_and_then_its_worker_killed(world: World, faulty: Stack) -> None:
    before = world.current()
    with world.building() as (job, builder):
        builder.kill()
        builder.wait(PATIENCE_S)
        world.caught()
        faulty.wait_for_successor("worker-general", faulty.kill("worker-general"))
    world.await_index(other_than=before)
    assert world.job(job) == ("succeeded", 3)
    world.check()


def test_the_web_and_both_servers_killed_while_an_index_is_built(world: World, faulty: Stack) -> None:
    before = world.current()
    with world.building() as (job, _):
        for name in ("web", "valkey", "postgres"):
            faulty.wait_for_successor(name, faulty.kill(name))
            faulty.wait_ready()
    world.await_index(other_than=before)
    assert world.job(job)[0] == "succeeded"
    world.check()


def test_a_worker_that_is_asked_to_stop_ends_its_build_first(world: World, faulty: Stack) -> None:
    before = world.current()
    with world.building() as (job, _):
        old = faulty.kill("worker-general", signal.SIGTERM)
        pause(0.5, "a worker that does not wait for its build would be gone")
    faulty.wait_for_successor("worker-general", old)
    world.await_index(other_than=before)
    assert world.job(job) == ("succeeded", 1)
    world.check()


# --- Files that are lost or damaged ----------------------------------------------------------------------


def lose_everywhere(stack: Stack) -> None:
    """On this host, and in its storage, which is a folder."""
    shutil.rmtree(stack.data_dir / "indexes")
    for stored in (stack.data_dir / "blobs").glob("*/index"):
        shutil.rmtree(stored)


def test_every_local_file_deleted_while_it_is_served_and_the_web_started_anew(
    world: World, faulty: Stack
) -> None:
    before = world.current()
    shutil.rmtree(faulty.data_dir / "indexes")
    pause(1, "searches go on meanwhile")
    faulty.restart("web")
    faulty.wait_ready()
    # Fetched from the storage, not built.
    answer = world.client.search(text=text_of(3))
    assert (answer["index"]["generation"], world.current()) == (before, before)
    assert (world.folder / str(before)).exists()
    world.check()


def test_every_file_deleted_and_the_web_started_anew(world: World, faulty: Stack) -> None:
    large = Workspace(faulty)
    large.fill(LARGE)
    large.upkeep()
    lost = large.await_index()
    before = world.current()
    worker = psutil.Process(faulty.pid("worker-general"))
    worker.suspend()
    try:
        lose_everywhere(faulty)
        faulty.restart("web")
        faulty.wait_ready()
        # One that is small enough is searched exactly, from the database.
        answer = world.client.search(text=text_of(3))
        assert (answer["index"]["kind"], answer["index"]["recall_estimate"]) == ("flat", 1.0)
        refused = large.client.request("POST", "/search", json={"text": text_of(3)})
        assert (refused.status_code, refused.json()["type"].rsplit(":", 1)[-1]) == (503, "index-rebuilding")
        assert int(refused.headers["Retry-After"]) > 0
    finally:
        worker.resume()
    large.await_index(other_than=lost)
    assert len(large.between(0, LARGE)) == LARGE
    assert large.client.search(text=text_of(7))["index"]["size"] == LARGE
    world.await_index(other_than=before)
    world.check()


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(("damage", "name"), [(flip, "vectors.f32"), (cut, "columns/seqs.npy")])
def test_a_damaged_file_is_noticed_by_its_digest(
    world: World, faulty: Stack, damage: Callable[[Path], None], name: str
) -> None:
    damaged = world.await_index()
    # A byte that changes under a process that has the file open may be read before anyone can notice.
    with world.searcher.still:
        [path] = (world.folder / damaged).glob(name)
        damage(path)
        faulty.restart("web")
        faulty.wait_ready()
    found = world.client.search(text=text_of(3))
    assert found["index"]["generation"] != damaged
    world.await_index(other_than=damaged)
    reason = world.query("SELECT state, reason FROM index_generation WHERE id = %s", damaged)
    assert reason[0][0] == "failed" and path.name in reason[0][1]
    world.check()


def test_a_file_cut_while_it_is_served(world: World, faulty: Stack) -> None:
    """Whoever reads what is not there any more dies; its successor looks before it reads."""
    damaged = world.await_index()
    cut(world.folder / damaged / "vectors.f32")
    world.await_index(other_than=damaged)
    faulty.wait_ready()
    world.check()
