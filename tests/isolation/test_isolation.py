"""One tenant attacks another through every documented operation and page; `make isolation` does so at length.

``ISOLATION_CALLS`` and ``ISOLATION_SEED`` choose how many calls, and which (docs/isolation.md).
"""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from collections.abc import Iterator

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from django.urls import reverse

from config.self_service import SelfService
from tenants.datasets import storage
from tests.isolation.attack import Attack
from tests.isolation.calls import Call
from tests.isolation.judging import Judge
from tests.isolation.pages import PAGE
from tests.isolation.world import SEALED, SIGN_ON, World, new_world, without_rows

CALLS = int(os.environ.get("ISOLATION_CALLS", "300"))
SEED = int(os.environ.get("ISOLATION_SEED", "19"))

#: Kinds of rows that a world has none of, and why: nothing of them is answered, or a job of hours makes them.
NOT_IN_A_WORLD = {
    **dict.fromkeys(SEALED, "written by sealing alone"),
    **dict.fromkeys(SIGN_ON, "made with a connection, or when somebody signs in by one"),
}


@pytest.fixture(scope="module", autouse=True)
def _as_installed() -> Iterator[None]:
    """Pages name their static files without hashes, so that these tests need no collectstatic; routes that an
    installation switches on are there."""
    plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    storages = {**django_settings.STORAGES, "staticfiles": plain}
    with override_settings(STORAGES=storages, SELF_SERVICE=SelfService(frozenset({"requests"}))):
        yield


def test_a_world_has_something_of_everything(victim: World) -> None:
    assert set(without_rows(victim)) <= set(NOT_IN_A_WORLD)


def test_the_judge_sees_what_is_packed(victim: World, attacker: World) -> None:
    judge = Judge(victim, attacker)
    word, asset = f"{victim.salt}0003", victim.ids["asset"][0]
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.jsonl.gz", gzip.compress(f'{{"note": "{word}", "id": "{asset}"}}'.encode()))
    assert judge.found(sink.getvalue()) == {word, asset}
    assert judge.found(attacker.text().encode()) == set()
    assert len(judge.found(victim.text().encode())) > 200


def test_the_judge_sees_its_words_in_the_victims_own_export(victim: World, attacker: World) -> None:
    judge, (export,) = Judge(victim, attacker), victim.ids["export"]
    answer = victim.api.get(f"/exports/{export}/content")
    assert len(judge.found(b"".join(answer.streaming_content))) > 20


def test_the_judge_sees_a_file_that_only_the_victim_has(victim: World, attacker: World) -> None:
    judge = Judge(victim, attacker)
    own, same = victim.files["kettle"], victim.files["same"]
    assert any(found.startswith("file ") for found in judge.found(own))
    assert judge.found(same) == set()
    sha, _ = storage.digest(io.BytesIO(own))
    assert judge.found(sha.encode()) == {sha}
    # Whoever has sent it may have it back, in an export, too.
    assert f"file {sha}" in judge.made_of(own)
    assert judge.made_of(b"another") == set()


@pytest.mark.guard
def test_every_operation_once(victim: World, attacker: World) -> None:
    """What `tests.isolation.mutating` asks again and again: short, and to the first leak."""
    victim.read()
    attacker.read()
    assert Attack(SEED, victim, attacker, console=False).once() == []


def test_pages_show_nothing_of_another_tenant(victim: World, attacker: World) -> None:
    """Those of lists, which name no id."""
    attack = Attack(SEED, victim, attacker, console=False)
    for name in ("people", "keys", "log", "jobs", "datasets", "webhooks", "data", "usage"):
        attack.do(Call(f"{PAGE}GET {name}", "GET", reverse(f"console:{name}")), "console")
    assert attack.run.leaks == []
    assert attack.run.counts["console"] == {"answered": 8}


@pytest.mark.timeout(max(300, CALLS))
@pytest.mark.slow
def test_no_call_reaches_another_tenant(victim: World, capsys: pytest.CaptureFixture[str]) -> None:
    # A new one, as what the other tests' has asked for may have been erased by now.
    attack = Attack(SEED, victim, new_world())
    run = attack.everything(CALLS)
    told = attack.told_by_growth()
    with capsys.disabled():
        print(run.report())  # noqa: T201 - a run says what it met
    assert run.leaks == []
    assert told == [], "what another tenant has can be counted"
    assert run.errors == []
    assert attack.unreached() == [], "no valid arguments: see the table of tests/api/test_permissions.py"
    assert run.forms > 40
