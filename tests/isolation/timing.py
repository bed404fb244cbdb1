"""Whether the time that an answer takes tells what another tenant has: mutual information in bits, from pairs.

Each pair is one thing that the other tenant has and one that nobody has, asked for by the same tenant in random order,
so that drift of the machine falls on both alike. The plug-in estimate over quantile bins is too high for few samples by
about (bins - 1) / (2 n ln 2) (Miller 1955): what it is on average for shuffled labels is taken off.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.isolation.world import World

BINS = 8
SHUFFLES = 200


@dataclass(frozen=True)
class Information:
    """Bits that a latency tells about whether another tenant has the thing: corrected, and 95 % of shuffled ones."""

    pairs: int
    bits: float
    shuffled: float
    medians_ms: tuple[float, float]

    def __str__(self) -> str:
        there, absent = self.medians_ms
        return (
            f"{self.pairs:>7} pairs  {self.bits:.5f} bit (shuffled labels: 95 % below {self.shuffled:.5f})  "
            f"medians {there:.2f} ms where the other has it, {absent:.2f} ms where nobody has"
        )


def information(there: np.ndarray, absent: np.ndarray, seed: int = 0) -> Information:
    """Of two samples of latencies in seconds, of equal length."""
    values = np.concatenate([there, absent])
    labels = np.repeat([1, 0], [len(there), len(absent)])
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1])
    binned = np.searchsorted(edges, values)
    chance = np.random.default_rng(seed)
    shuffled = np.array([_bits(binned, chance.permutation(labels)) for _ in range(SHUFFLES)])
    corrected = max(0.0, _bits(binned, labels) - float(shuffled.mean()))
    limit = max(0.0, float(np.quantile(shuffled, 0.95) - shuffled.mean()))
    medians = (float(np.median(there)) * 1e3, float(np.median(absent)) * 1e3)
    return Information(len(there), corrected, limit, medians)


def _bits(binned: np.ndarray, labels: np.ndarray) -> float:
    """The plug-in estimate of mutual information between a bin and a label."""
    joint = np.zeros((BINS, 2))
    np.add.at(joint, (binned, labels), 1)
    joint /= joint.sum()
    expected = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    known = joint > 0
    return float((joint[known] * np.log2(joint[known] / expected[known])).sum())


def measured(
    prime: Callable[[str], object], ask: Callable[[str], object], pairs: int, seed: int
) -> Information:
    """`prime` lets the other tenant have a text, `ask` is what is timed, by the tenant that wants to know."""
    chance = random.Random(seed)
    taken: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(pairs):
        texts = {True: f"a kettle {uuid.uuid4().hex}", False: f"a kettle {uuid.uuid4().hex}"}
        prime(texts[True])
        for there in chance.sample((True, False), 2):
            start = time.perf_counter()
            ask(texts[there])
            taken[there].append(time.perf_counter() - start)
    return information(np.array(taken[True]), np.array(taken[False]), seed)


def channels(
    victim: World, attacker: World
) -> dict[str, tuple[Callable[[str], object], Callable[[str], object]]]:
    """What is asked, and by what the other tenant has it: the same content, and the same query."""
    return {
        "upload of the same content": (_uploading(victim), _uploading(attacker)),
        "search for the same words": (_searching(victim), _searching(attacker)),
    }


def _uploading(world: World) -> Callable[[str], object]:
    from tenants.datasets.models import Dataset

    with tenant_scope(world.id):
        dataset = Dataset.objects.order_by("id")[0].id
    api: Api = world.api
    return lambda text: _done(api.post(f"/datasets/{dataset}/assets", {"text": text}), 202)


def _searching(world: World) -> Callable[[str], object]:
    api: Api = world.api
    return lambda text: _done(api.post("/search", {"text": text, "top_k": 3}), 200)


def _done(answer: object, status: int) -> None:
    if answer.status_code != status:  # type: ignore[attr-defined]
        raise AssertionError(answer.content)  # type: ignore[attr-defined]
