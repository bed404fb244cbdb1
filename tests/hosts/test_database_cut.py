"""A web host whose database is cut off without a word: how long its requests hang until they are told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Party
from tests.hosts.proxy import WebHost
from tests.hosts.relay import Relay
from tests.waiting import until

# `keepalives_*` and `tcp_user_timeout` of the settings allow ten seconds; the rest is this machine's.
WITHIN_S = 13.0
ASK = """
import sys, urllib.error, urllib.request
url, token = sys.argv[1:]
asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
try:
    print(urllib.request.urlopen(asked, timeout=60).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError as error:
    print(error)
"""


@pytest.mark.timeout(300)
def test_a_request_is_told_when_its_database_is_cut_off(
    namespaces: list[str], party: Party, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    relay = Relay()
    away = {name: relay.url(os.environ[name]) for name in ("DATABASE_URL", "REDIS_URL", "BROKER_URL")}
    host = WebHost.product("cut", tmp_path, within=namespaces[0], **away)

    def ask() -> tuple[str, float]:
        inside = ["ip", "netns", "exec", namespaces[0], sys.executable, "-I", "-c", ASK]
        began = time.monotonic()
        done = subprocess.run(
            [*inside, f"http://{host.address}/api/v1/datasets", party.token],
            check=True,
            capture_output=True,
            text=True,
            timeout=90,
        )
        return done.stdout.strip(), time.monotonic() - began

    try:
        until(lambda: ask()[0] == "200", seconds=120, every_s=1)
        subprocess.run(["ip", "link", "set", "clv1", "down"], check=True)
        found = [ask() for _ in range(3)]
        subprocess.run(["ip", "link", "set", "clv1", "up"], check=True)
        back = time.monotonic()
        until(lambda: ask()[0] == "200", seconds=60, every_s=0.2)
        back = time.monotonic() - back
    finally:
        host.kill()
        relay.close()
    told = ", ".join(f"{status} after {took:.1f} s" for status, took in found)
    tell(f"a database cut off: requests are answered {told}; {back:.1f} s after its return one succeeds")
    assert all(status == "503" and took <= WITHIN_S for status, took in found), told
