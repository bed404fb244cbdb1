"""Fine-tuning on the running stack, over HTTP: from pairs to searches by a model of one's own, and back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.flows.client import Client
from tests.tenants.learning.world import WORDS, drawing
from tests.waiting import until

# The training worker takes what the others leave: on a busy machine that is little.
pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.timeout(1200)]

PAIRS = 40


@pytest.fixture(scope="module")
def trained(request: pytest.FixtureRequest) -> Any:
    """A tenant with pairs, and a model that was trained on them while its trainer was killed once."""
    make_client: Callable[..., Client] = request.getfixturevalue("module_client")
    client = make_client()
    dataset = client.dataset("shapes")
    sent = [client.upload(dataset, drawing(words, n), text=words) for n, words in enumerate(WORDS[:PAIRS])]
    assert {client.wait(answer["job"], 300)["state"] for answer in sent} == {"succeeded"}
    # From a prior, whose heads take many steps that can be killed; it has half as many numbers as what serves.
    asked = {"dataset": dataset, "base": "prior-2", "epochs": 6, "name": "shapes"}
    answer = client.json("POST", "/finetunes", 202, json=asked)
    killed = kill_trainer(client, answer)
    job = client.wait(answer["job"], 600)
    return client, answer["model"]["id"], job, killed


@pytest.fixture(scope="module")
def module_client(stack: Any, manage: Callable[..., str]) -> Callable[..., Client]:
    def make() -> Client:
        slug = f"learn-{os.getpid()}"
        printed = manage("create_tenant", slug, "--owner", f"owner@{slug}.example", "--plan", "demo")
        token = next(line.split()[-1] for line in printed.splitlines() if line.startswith("api key"))
        return Client(stack.base_url, token)

    return make


def kill_trainer(client: Client, answer: dict[str, Any]) -> bool:
    """With -9, as soon as it draws a curve. False if it had ended before."""
    path = f"/models/{answer['model']['id']}"

    def said() -> str:
        if client.json("GET", path)["curves"]:
            return "draws"
        return "ended" if client.json("GET", f"/jobs/{answer['job']['id']}")["finished_at"] else ""

    if until(said, 500, "the trainer told nothing", every_s=0.2) == "ended":
        return False
    found = [pid for pid in trainers() if answer["model"]["id"] in command(pid)]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return bool(found)


def trainers() -> list[int]:
    return [
        int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and is_trainer(entry)
    ]


def is_trainer(entry: Path) -> bool:
    return "ml.training" in command(int(entry.name))


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def test_a_trainer_that_was_killed_is_gone_on_with(trained) -> None:
    client, model_id, job, killed = trained
    assert job["state"] == "succeeded", job
    if killed:
        assert job["attempts"] >= 1
    model = client.json("GET", f"/models/{model_id}")
    assert (model["state"], model["error"]) == ("candidate", None)
    assert model["data"]["datasets"][0]["pairs"] == PAIRS
    assert sum(next(iter(model["data"]["quality"].values()))["splits"].values()) <= PAIRS
    epochs = [point["epoch"] for point in model["curves"]]
    assert epochs == sorted(set(epochs))
    assert model["cost"]["cpu_s"] > 0


def test_the_report_stands_beside_the_parent_and_the_traditional_methods(trained) -> None:
    client, model_id, *_ = trained
    metrics = client.json("GET", f"/models/{model_id}")["metrics"]["domain"]
    for way in ("text>image", "image>text"):
        assert 0 <= metrics["model"][way]["r1"] <= metrics["model"][way]["r10"] <= 1
        low, high = metrics["differences"]["parent"][way]["mrr"]["interval"]
        assert low <= high


def test_it_serves_searches_and_they_never_fail_meanwhile(trained) -> None:
    client, model_id, *_ = trained
    asked = {"override": True, "reason": "A test."}
    answer = client.json("POST", f"/models/{model_id}/promote", 202, json=asked)
    seen = set()
    while client.json("GET", f"/jobs/{answer['job']['id']}")["finished_at"] is None:
        found = client.search(text="a large red circle", top_k=5)
        assert len(found["results"]) == 5
        seen.add(found["model"]["id"])
    job = client.json("GET", f"/jobs/{answer['job']['id']}")
    assert job["state"] == "succeeded", job
    assert seen <= {"open-2", model_id}
    now = client.search(text="a large red circle", top_k=5)
    assert (now["model"]["id"], len(now["results"])) == (model_id, 5)
    report = client.json("GET", f"/models/{model_id}")["promotion"]["report"]
    assert 0 <= report["overlap"]["at_10"] <= 1
    assert report["held_out"]["queries"] >= 1

    back = client.json("POST", f"/models/{model_id}/rollback")
    assert back["live"]["id"] == "open-2"
    assert client.search(text="a large red circle")["model"]["id"] == "open-2"


def test_data_from_which_nothing_can_be_learnt(trained) -> None:
    client, *_ = trained
    empty, alike = client.dataset("empty"), client.dataset("alike")
    for n in range(3):
        client.put(alike, drawing("small red circle", n), text="a circle")
    refused = client.json("POST", "/finetunes", 422, json={"dataset": empty})
    assert "nothing to learn from" in refused["detail"]
    answer = client.json("POST", "/finetunes", 202, json={"dataset": alike})
    job = client.wait(answer["job"], 120)
    assert (job["state"], job["attempts"], job["error"]["type"]) == ("failed", 1, "single-class")
    assert client.json("GET", f"/models/{answer['model']['id']}")["error"] == job["error"]
