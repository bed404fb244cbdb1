"""Assets embedded for another model on two nodes of Ray, one of which is killed: proof 12 of `make test-hosts`.

The nodes are real ones, with tokens, and get neither the database nor the storage's credentials.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from ml import sandbox
from ml.compression import model_places
from standalone.ports import free_port
from tenants.jobs.services import cancel
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.flows.pictures import jpeg
from tests.tenants.corpus import Corpus
from tests.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is missing: pip install 'ray[data]'"
    ),
    pytest.mark.timeout(900),
]
TEXTS, PICTURES = 4_000, 60


class Node:
    """A Ray node in the foreground, and all its processes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._log = folder / f"{uuid.uuid4().hex}.log"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=2"]
        command += ["--node-ip-address=127.0.0.1", "--object-store-memory=200000000", *arguments]
        env = sandbox.environment(
            "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", RAY_USAGE_STATS_ENABLED="0", **model_places()
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, env=env, stdout=log, stderr=log)

    def wait(self) -> None:
        until(lambda: "Ray runtime started" in self._log.read_text(), message=self._log.read_text)

    def kill_raylet(self) -> None:
        """SIGKILL, whereupon its workers end."""
        raylets = [one for one in self._family() if one.name() == "raylet"]
        assert len(raylets) == 1
        raylets[0].kill()

    def stop(self) -> None:
        for process in [*self._family(), psutil.Process(self._process.pid)]:
            process.kill()
        self._process.wait(20)

    def _family(self) -> list[psutil.Process]:
        return psutil.Process(self._process.pid).children(recursive=True)


@pytest.fixture
def nodes(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Node]]:
    """Two nodes, and `RAY_ADDRESS`."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", uuid.uuid4().hex)
    # Names of sockets have to be short.
    folder, port = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")), free_port()
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--temp-dir={folder}"]
    started = [Node(folder, *head)]
    try:
        started[0].wait()
        settings.RAY_ADDRESS = f"127.0.0.1:{port}"
        started.append(Node(folder, f"--address={settings.RAY_ADDRESS}"))
        started[1].wait()
        yield started
    finally:
        for node in started:
            node.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def corpus(party: Party, tmp_path: Path) -> Corpus:
    return Corpus(party, tmp_path)


@pytest.mark.proof(12)
def test_a_node_is_killed_in_the_middle_and_every_row_is_there_once(
    nodes: list[Node], corpus: Corpus, tell: Callable[[str], None]
) -> None:
    texts = corpus.add("text", [f"row number {n} of a long list".encode() for n in range(TEXTS)])
    pictures = corpus.add("image", [jpeg(n) for n in range(PICTURES)])
    (broken,) = corpus.add("image", [jpeg(PICTURES)[:200]])
    (gone,) = corpus.add("text", [b"nowhere"], stored=False)
    job = corpus.begin()
    began = time.monotonic()
    thread = corpus.run(job)
    until(lambda: len(corpus.rows()) >= 500, seconds=240, message=lambda: corpus.ended(job).error)
    nodes[1].kill_raylet()
    before, cut = len(corpus.rows()), time.monotonic()
    until(lambda: len(corpus.rows()) > before + 512, seconds=240)
    on_s = time.monotonic() - cut
    thread.join(600)
    ended, rows = corpus.ended(job), corpus.rows()
    wanted = {one.id for one in (*texts, *pictures)}
    tell(
        f"12. Ray on two nodes, one killed after {before} of {len(wanted)} rows: {ended.state} in {ended.attempts} "
        f"attempt, {len(rows)} vectors of {len(set(rows))} assets; 512 more {on_s:.1f} s after the kill, all after "
        f"{time.monotonic() - began:.0f} s"
    )
    assert before < len(wanted) / 2
    assert (ended.state, ended.attempts, ended.error) == ("succeeded", 1, None)
    assert (len(rows), set(rows)) == (len(wanted), wanted)
    assert set(corpus.gaps()) == {broken.id, gone.id}
    assert corpus.gaps()[gone.id] == "The file is not there."
    space = model_routing.space(corpus.model, corpus.id)
    expected = space.as_asset(space.embed_texts([corpus.contents[one.id][1].decode() for one in texts[:20]]))
    found = np.array([corpus.vector(one.id) for one in texts[:20]])
    assert (np.sum(found * expected, axis=1) > 0.99).all()


def test_a_cancelled_job_ends_its_driver(nodes: list[Node], corpus: Corpus) -> None:
    corpus.add("text", [f"row number {n} of a long list".encode() for n in range(TEXTS)])
    job = corpus.begin()
    thread = corpus.run(job)
    until(lambda: len(corpus.rows()) > 0, seconds=240, message=lambda: corpus.ended(job).error)
    secret = {name for name in os.environ if "DATABASE" in name or "SECRET" in name or "REDIS" in name}
    assert secret
    for driver in _drivers():
        assert not secret & driver.environ().keys()
    assert _drivers()
    with tenant_scope(corpus.id):
        cancel(job_id=job.id)
    thread.join(120)
    assert corpus.ended(job).state == "cancelled"
    assert len(corpus.rows()) < TEXTS
    until(lambda: not _drivers())


def _drivers() -> list[psutil.Process]:
    found = []
    for one in psutil.Process(os.getpid()).children(recursive=True):
        # Another may end while it is looked at.
        with contextlib.suppress(psutil.Error):
            if "ml.bulk" in one.cmdline():
                found.append(one)
    return found
