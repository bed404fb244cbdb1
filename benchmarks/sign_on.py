"""What a sign-on costs beside a password (`make bench-sign_on`): statements and time of each way in, in this process.

Postgres and Valkey are real ones of its own, the providers answer on this machine at once: theirs is the time that a
network adds. Ends with 1 where a way in, or a page afterwards, takes more statements than promised, or where one by a
provider takes longer than a password, whose hash is slow on purpose.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _report import OUT, Line, Report, at_most, sized
from _stack import services_in, start_django

TIMES = sized(60, 2)
# Statements: of a sign-in by password, by OpenID Connect and by SAML of who came before, and of a page after it.
PASSWORD, OIDC, SAML, PAGE = 15, 52, 62, 14
Way = Callable[[Any], None]


def run() -> dict[str, dict[str, float]]:
    with services_in(OUT / "sign_on") as stack:
        start_django(stack)
        from django.conf import settings

        from tests.conftest import new_party
        from tests.tenants.sign_on_world import allow_local, forging

        allow_local(settings)
        # Names of files without their hashes, which a start computes.
        plain = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
        settings.STORAGES = {**settings.STORAGES, "staticfiles": plain}
        # Django's own client calls it so.
        settings.ALLOWED_HOSTS = ["testserver"]
        with forging() as forger:
            return measure(new_party, forger)


def measure(new_party: Callable[[], Any], forger: Any) -> dict[str, dict[str, float]]:
    from tenants.people.sign_on import oidc
    from tests.tenants.saml_provider import metadata
    from tests.tenants.sign_on_world import connect, connect_oidc

    by_password, by_oidc, by_saml = (new_party() for _ in range(3))
    connect_oidc(by_oidc, forger.issuer)
    route = connect(by_saml, "saml", metadata=metadata(), default_role="viewer")

    def first(client: Any) -> None:
        """As a process does it that has not asked this provider lately."""
        oidc._kept.clear()
        come_by_oidc(client, forger, by_oidc)

    ways: dict[str, Way] = {
        "password": lambda client: come_by_password(client, by_password),
        "OpenID Connect": lambda client: come_by_oidc(client, forger, by_oidc),
        "OpenID Connect, description and keys read": first,
        "SAML 2.0": lambda client: come_by_saml(client, by_saml, route),
    }
    return {name: {**cost_of(way), **page_after(way)} for name, way in ways.items()}


def come_by_password(client: Any, party: Any) -> None:
    answer = client.post("/login", {"username": party.owner.email, "password": party.password})
    assert answer.status_code == 302, answer.status_code


def come_by_oidc(client: Any, forger: Any, party: Any) -> None:
    from tests.tenants.sign_on_world import come, domain_name

    assert come(client, forger, f"ann@{domain_name(party)}").status_code == 302


def come_by_saml(client: Any, party: Any, route: Any) -> None:
    from tests.tenants.saml_world import come_by_saml as come

    assert come(client, party, route).status_code == 302


@contextmanager
def statements() -> Iterator[list[int]]:
    """Filled with how many statements the block sent."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    counted: list[int] = []
    with CaptureQueriesContext(connection) as captured:
        yield counted
    counted.append(len([q for q in captured.captured_queries if "SAVEPOINT" not in q["sql"]]))


def cost_of(way: Way) -> dict[str, float]:
    """Statements of one that comes again, and the median in milliseconds of one more (`p95_ms`: of 20 the slowest)."""
    new_browser = browsers()
    way(new_browser())
    client = new_browser()
    with statements() as counted:
        way(client)
    took = []
    for _ in range(TIMES):
        client = new_browser()
        begun = time.perf_counter()
        way(client)
        took.append((time.perf_counter() - begun) * 1000)
    p50, p95 = statistics.median(took), statistics.quantiles(took, n=20)[-1]
    return {"statements": counted[0], "p50_ms": round(p50, 1), "p95_ms": round(p95, 1)}


def browsers() -> Callable[[], Any]:
    """Makes browsers; attempts of one address are counted, and all of these have one."""
    from django.test import Client

    from console.account.throttle import Attempt
    from tenants.valkey import client as valkey

    def one() -> Any:
        for purpose in ("open", "login"):
            valkey().delete(*Attempt("", "127.0.0.1", purpose)._keys)
        return Client()

    return one


def page_after(way: Way) -> dict[str, float]:
    """Statements of a page of the person's own, which every role opens, once its caches are warm."""
    client = browsers()()
    way(client)
    client.get("/account")
    with statements() as counted:
        assert client.get("/account").status_code == 200
    return {"page_statements": counted[0]}


def promises(found: dict[str, dict[str, float]]) -> list[Line]:
    limits = {"password": PASSWORD, "SAML 2.0": SAML}
    lines = []
    for name, row in found.items():
        limit = limits.get(name, OIDC)
        lines.append(at_most(f"{name}: statements", row["statements"], limit, "", noise=0))
        lines.append(at_most(f"{name}: statements of a page", row["page_statements"], PAGE, "", noise=0))
        if name == "password":
            lines.append(Line(f"{name}: p50", row["p50_ms"], "ms"))
        else:
            lines.append(at_most(f"{name}: p50", row["p50_ms"], found["password"]["p50_ms"]))
    return lines


def main() -> int:
    report = Report("sign_on")
    found = report.run("ways in", run)
    if found is None:
        return report.finish({})
    lines = promises(found)
    for line in lines:
        print(line.shown())
    report.judge("ways in", lines)
    return report.finish({"times": TIMES, "ways": found})


if __name__ == "__main__":
    sys.exit(main())
