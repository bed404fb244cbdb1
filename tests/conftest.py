"""Shared fixtures. The database is real, migrated and shared by the session: a test makes tenants of its own.

Nothing is rolled back or truncated (the application's role may not, and rolling back would hide leaks and
on-commit hooks), so a test never counts rows outside its own tenants.
"""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

#: Fixtures that tests of several packages use.
pytest_plugins = ["tests.servers", "tests.tiers", "tests.workers.sketching"]

ROOT = Path(__file__).resolve().parent.parent
#: `make test-fast` starts none.
SERVICES = os.environ.get("CROSSLIGHT_TEST_SERVICES") != "off"
NOT_FAST = ("stack", "slow", "browser", "services")


#: Files that share the session's stack: one process runs all of them, so that it is started once.
ON_THE_STACK = re.compile(
    r"tests/(flows/|\w+/test_browser|standalone/test_(backup|doctor|point_in_time)\.py)"
)


def pytest_configure() -> None:
    """Vectors that tests write by hand have 256 numbers. Stacks that tests start choose their default themselves."""
    from django.conf import settings

    settings.DEFAULT_MODEL = "prior:2"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Each test gets an id of its own: of several with one id a scheduler would run the first, and say nothing."""
    if not SERVICES:
        left_out = [item for item in items if any(item.get_closest_marker(name) for name in NOT_FAST)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    for item in items:
        if item.get_closest_marker("stack") and not item.get_closest_marker("timeout"):
            # The first of them waits for the stack, which embeds the demo: minutes where the cores are old or busy.
            item.add_marker(pytest.mark.timeout(900))
        _, _, operation = item.name.partition("[")
        if operation and item._id.params is None:  # Schemathesis leaves it out.
            item._id = item._id.with_params(operation.removesuffix("]"))
    elsewhere = {
        item.nodeid.partition("::")[0] for item in items if "stack" in getattr(item, "fixturenames", ())
    }
    # Those of tests/smoke have a stack of their own.
    elsewhere = {name for name in elsewhere if not ON_THE_STACK.match(name) and "/smoke/" not in name}
    if elsewhere:
        raise pytest.UsageError(f"files on the stack that ON_THE_STACK does not name: {', '.join(elsewhere)}")
    twice = [nodeid for nodeid, count in Counter(item.nodeid for item in items).items() if count > 1]
    if twice:
        raise pytest.UsageError(f"tests that have one id: {', '.join(twice[:5])}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Without services, a test that asks for one is skipped where it asks.

    Decided before the report is made: writing a traceback down takes longer than such a test.
    """
    skipped = not SERVICES and call.excinfo is not None and asks_for_services(call.excinfo.value)
    if skipped:
        reason = pytest.skip.Exception("asks for Postgres or Valkey: make test")
        call.excinfo = pytest.ExceptionInfo.from_exc_info((type(reason), reason, call.excinfo.tb))
    report = yield
    if skipped:
        # Of one place, so that they are counted in one line.
        report.longrepr = (str(ROOT / "tests"), None, reason.msg)
    return report


def asks_for_services(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, redis.ConnectionError) or str(error).startswith("Database access not allowed"):
            return True
        error = error.__cause__ or error.__context__
    return False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """By whole files, as modules have fixtures; each process has a database and a stack of its own."""
    from xdist.scheduler import LoadFileScheduling

    class ByStack(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "stack" if ON_THE_STACK.match(nodeid) else str(super()._split_scope(nodeid))

    return ByStack(config, log)


@pytest.fixture(scope="session", autouse=True)
def _database(django_db_blocker: Any) -> Iterator[None]:
    if not SERVICES:
        yield  # a test that asks for the database fails at once, and says so
        return
    with django_db_blocker.unblock():
        yield


@pytest.fixture(autouse=True)
def _ordinary_scheduling() -> Iterator[None]:
    """A test that leaves this process real-time scheduling gives it to every stack that is started afterwards, which
    then starve all others: `ml.sandbox.without_realtime`."""
    yield
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.fixture(autouse=True)
def _quick_hashes(settings: Any) -> None:
    """Hashing a password is slow by design, and every party has one. In this process only: the stack's are real."""
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.MD5PasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]


@dataclass(frozen=True)
class Party:
    """A tenant of its own with an owner and a key of every scope."""

    tenant: Any
    owner: Any
    password: str
    token: str

    @property
    def id(self) -> Any:
        return self.tenant.id

    @property
    def auth(self) -> dict[str, str]:
        return {"HTTP_AUTHORIZATION": f"Bearer {self.token}"}


def new_party(plan: str = "demo", scopes: tuple[str, ...] | None = None) -> Party:
    from tenants.accounts import keys, services
    from tenants.accounts.permissions import SCOPES
    from tenants.scope import tenant_scope

    slug = f"t-{secrets.token_hex(6)}"
    tenant = services.create_tenant(slug=slug, name=slug, plan=plan)
    password = secrets.token_urlsafe(12)
    owner = services.create_user(email=f"owner@{slug}.example", password=password)
    services.set_role(tenant=tenant, user=owner, role="owner")
    with tenant_scope(tenant.id):
        _, token = keys.create_key(
            name="test", scopes=list(SCOPES if scopes is None else scopes), created_by=owner
        )
    return Party(tenant, owner, password, token)


@pytest.fixture
def make_party() -> Callable[..., Party]:
    return new_party


@pytest.fixture
def party(make_party: Callable[..., Party]) -> Party:
    return make_party()


@pytest.fixture
def stranger(make_party: Callable[..., Party]) -> Party:
    return make_party()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The whole product, as `make run` starts it, with the demo tenants; once for the session."""
    from standalone.stack import running_stack

    leases = {"JOB_LEASE_S": "4", "JOB_RESEND_S": "2", "JOB_SWEEP_S": "1"}
    # Webhooks may reach the tests' own servers.
    local = {
        "WEBHOOK_ALLOW_HTTP": "1",
        "WEBHOOK_PORTS": "1024-65535",
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.1/32",
        "STREAM_ALLOW_PLAIN": "1",
        "STREAM_PORTS": "1024-65535",
        "STREAM_ALLOWED_NETWORKS": "127.0.0.1/32",
        # Sessions are kept from test to test.
        "REAUTHENTICATION_MINUTES": "600",
        "WAL_ARCHIVE": str(tmp_path_factory.mktemp("wal")),
        # Which takes a share of a core for half a minute, and a workspace's one training at a time.
        "DEMO_MODEL": "0",
    }
    with running_stack(tmp_path_factory.mktemp("stack"), demo=True, extra_env={**leases, **local}) as running:
        _shared.append(running)
        yield running
        _shared.clear()


_shared: list[Any] = []


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: Any, nextitem: Any) -> None:
    """One of several processes runs the files on the stack in a row: it gives back 6 GB and a share of a core after."""
    in_a_row = "PYTEST_XDIST_WORKER" in os.environ and ON_THE_STACK.match(item.nodeid)
    if _shared and in_a_row and not (nextitem and ON_THE_STACK.match(nextitem.nodeid)):
        _shared.pop().stop()
