"""Mutated bytes for every parser of what a client sends: an answer that is no 5xx, in bounded time, whatever they are.

``FUZZ_EXAMPLES`` says how many in all (a few without it, the same each time). `make fuzz` runs many more, other ones.
"""

from __future__ import annotations

import os
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.conftest import new_party
from tests.fuzz.parsers import CORPUS, PARSERS, Shop, seeds
from tests.ml.test_media_fuzz import Mutation, mutations

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "260"))
EACH = max(1, EXAMPLES // len(PARSERS))
#: CPU seconds, generous: an answer takes some hundredths. What waits without working meets pytest's timeout.
HANGS_CPU_S = 20.0


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(new_party())


def test_every_parser_has_a_corpus() -> None:
    assert {path.name for path in CORPUS.iterdir()} == set(PARSERS)


@pytest.mark.parametrize("name", list(PARSERS))
@pytest.mark.timeout(max(300, 5 * EACH))
@pytest.mark.slow
def test_mutated_bytes_are_answered(name: str, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    known, send = seeds(name), PARSERS[name]
    answers: Counter[int] = Counter()
    slowest = 0.0

    def ask(content: bytes) -> None:
        nonlocal slowest
        start = time.process_time()
        answer = send(shop, content)
        if answer.streaming:
            b"".join(answer.streaming_content)
        slowest = max(slowest, time.process_time() - start)
        answers[answer.status_code] += 1
        assert answer.status_code < 500, (answer.status_code, content)
        assert slowest < HANGS_CPU_S, content

    for seed in known:
        ask(seed)

    @settings(
        max_examples=EACH,
        deadline=None,
        database=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(known), mutations(known))
    def fuzz(seed: bytes, changes: list[Mutation]) -> None:
        content = bytearray(seed)
        for change in changes:
            content = change(content)[: 1 << 16]
        ask(bytes(content))

    fuzz()
    if "FUZZ_EXAMPLES" in os.environ:
        with capsys.disabled():
            print(  # noqa: T201 - a run says what it met
                f"\n{name:16} {sum(answers.values()):>6} {dict(sorted(answers.items()))} slowest {slowest:.2f} CPU s"
            )
    assert sum(answers.values()) >= EACH
