"""Bodies as the event loop reads them: how slow they may be, how many there may be, what is left of them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError

from api.problems import Problem, Refusal
from config import request_bodies
from config.bridge import TUS_PART, Bridge
from config.request_bodies import Bodies, ClientLeft
from tenants import observe
from tenants.errors import StorageFull
from tenants.long_requests import Threads
from tests.waiting import pause_async

KB = 1024


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch, settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_DIR = tmp_path
    settings.BODY_LEAST_RATE = 100 * KB
    monkeypatch.setattr(request_bodies, "GRACE_S", 0.1)
    monkeypatch.setattr(request_bodies, "STALLED_S", 0.3)


def sender(*parts: bytes | float, leaves: bool = False) -> Callable[[], Coroutine[Any, Any, dict[str, Any]]]:
    """A client that sends these parts; numbers are seconds of silence. In the end it says nothing more, or leaves."""

    async def messages() -> AsyncIterator[dict[str, Any]]:
        for index, part in enumerate(parts):
            if isinstance(part, float):
                await pause_async(part, "a sender that takes so long")
                continue
            more = leaves or index < len(parts) - 1
            yield {"type": "http.request", "body": part, "more_body": more}
        if leaves:
            yield {"type": "http.disconnect"}
        await asyncio.Event().wait()

    return messages().__anext__


async def spooled(of: Bodies, receive: Any, length: int, tenant: str = "t") -> bytes:
    async with of.large(receive, length, tenant) as file:
        return file.read()


def test_a_body_comes_whole(tmp_path: Path) -> None:
    content = os.urandom(700 * KB)
    parts = [content[i : i + 50 * KB] for i in range(0, len(content), 50 * KB)]

    async def run() -> None:
        of = Bodies()
        small = await of.small(sender(b"ab", 0.01, b"c"), 3, "192.0.2.1")
        assert small.read() == b"abc"
        assert await spooled(of, sender(*parts), len(content)) == content
        async with of.windows(sender(*parts, 0.0, b""), len(content), "t") as windows:
            assert b"".join([window async for window in windows]) == content

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"x"], id="silent"),
        pytest.param([part for _ in range(40) for part in (b"x", 0.05)], id="drop by drop"),
        pytest.param([b"x" * 60 * KB, 0.5, b"x" * 60 * KB], id="fast, then silent"),
    ],
)
def test_a_slow_body_is_given_up(parts: list[bytes | float]) -> None:
    async def run() -> None:
        of = Bodies()
        length = 1000 * KB
        # More is to come.
        for read in (
            of.small(sender(*parts, 99.0, b""), 64 * KB, "a"),
            spooled(of, sender(*parts, 99.0, b""), length),
        ):
            begun = asyncio.get_running_loop().time()
            with pytest.raises(Refusal) as refusal:
                await read
            assert refusal.value.problem.status == 408
            # Forty drops at this pace would take two seconds.
            assert asyncio.get_running_loop().time() - begun < 1.5
        assert await spooled(of, sender(b"abc"), 3) == b"abc"

    asyncio.run(run())


def test_a_body_has_to_be_complete_by_its_deadline(settings: Any) -> None:
    settings.BODY_DEADLINE_S = 0.4
    quick_enough = [part for _ in range(100) for part in (b"x" * 20 * KB, 0.05)]

    async def run() -> None:
        with pytest.raises(Refusal):
            await spooled(Bodies(), sender(*quick_enough), 2000 * KB)

    asyncio.run(run())


def test_a_body_that_breaks_off_is_none(tmp_path: Path) -> None:
    content = os.urandom(300 * KB)

    async def run() -> None:
        of = Bodies()
        for receive in (sender(content, leaves=True), sender(content)):
            # Also where the connection ends as if that had been all.
            with pytest.raises(ClientLeft):
                await spooled(of, receive, 400 * KB)
        with pytest.raises(ClientLeft):
            await of.small(sender(b"x", leaves=True), 400, "a")
        came = b""
        with pytest.raises(ClientLeft):
            async with of.windows(sender(content, leaves=True), 400 * KB, "t") as windows:
                async for window in windows:
                    came += window
        assert came == content

    asyncio.run(run())
    assert list(tmp_path.iterdir()) == []


def test_windows_are_not_held_back_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bodies, "WINDOW_S", 0.05)
    parts = [part for _ in range(4) for part in (b"x" * 10 * KB, 0.06)]

    async def run() -> int:
        async with Bodies().windows(sender(*parts, b"x"), 40 * KB + 1, "t") as windows:
            return len([window async for window in windows])

    assert asyncio.run(run()) >= 3


def test_who_sends_at_once_is_served_among_slow_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bodies, "GRACE_S", 30.0)
    monkeypatch.setattr(request_bodies, "MAX_SMALL_OF_ADDRESS", 3)
    monkeypatch.setattr(request_bodies, "MAX_SMALL", 5)

    async def run() -> None:
        of = Bodies()
        slow = [asyncio.create_task(of.small(sender(b"x", 99.0, b""), 9, "2001:db8::1")) for _ in range(3)]
        await pause_async(0, "they begin, the first first")
        others = [asyncio.create_task(of.small(sender(b"x", 99.0, b""), 9, "192.0.2.1")) for _ in range(2)]
        await pause_async(0.01, "what is under way goes as far as it can")
        # The same network of IPv6: the one that has taken longest goes, of that address and no other.
        assert (await of.small(sender(b"abc"), 3, "2001:db8::2")).read() == b"abc"
        await pause_async(0.01, "what is under way goes as far as it can")
        assert [task.done() for task in (*slow, *others)] == [True, False, False, False, False]
        # In all.
        for address in ("192.0.2.7", "192.0.2.8"):
            others.append(asyncio.create_task(of.small(sender(b"x", 99.0, b""), 9, address)))
            await pause_async(0.01, "what is under way goes as far as it can")
        assert [task.done() for task in (*slow, *others)] == [True, True] + [False] * 5
        for task in (*slow, *others):
            task.cancel()
        ended = await asyncio.gather(*slow, *others, return_exceptions=True)
        assert [type(error) for error in ended[:2]] == [Refusal, Refusal]
        assert not of._small
        assert not of._all_small

    asyncio.run(run())


def test_large_bodies_are_bounded_for_a_tenant_and_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bodies, "MAX_LARGE_OF_TENANT", 2)
    monkeypatch.setattr(request_bodies, "MAX_LARGE", 3)

    async def status(of: Bodies, tenant: str) -> int:
        with pytest.raises(Refusal) as refusal:
            await spooled(of, sender(b"abc"), 3, tenant)
        return refusal.value.problem.status

    async def run() -> None:
        of = Bodies()
        async with AsyncExitStack() as held:
            for _ in range(2):
                await held.enter_async_context(of.large(sender(b"abc"), 3, "one"))
            assert await status(of, "one") == 429
            await held.enter_async_context(of.large(sender(b"abc"), 3, "two"))
            assert await status(of, "two") == 503
        assert await spooled(of, sender(b"abc"), 3, "one") == b"abc"

    asyncio.run(run())


def test_large_bodies_of_strangers_are_bounded_by_network_and_take_no_place_of_a_tenant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(request_bodies, "MAX_OPEN_OF_NETWORK", 1)
    monkeypatch.setattr(request_bodies, "MAX_OPEN", 2)

    async def status(of: Bodies, network: str) -> int:
        with pytest.raises(Refusal) as refusal:
            async with of.of_network(sender(b"abc"), 3, network):
                pass
        return refusal.value.problem.status

    async def run() -> None:
        of = Bodies()
        async with AsyncExitStack() as held:
            for network in ("192.0.2.1", "192.0.2.2"):
                await held.enter_async_context(of.of_network(sender(b"abc"), 3, network))
            assert [await status(of, network) for network in ("192.0.2.1", "192.0.2.3")] == [429, 503]
            assert await spooled(of, sender(b"abc"), 3, "tenant") == b"abc"
        async with of.of_network(sender(b"abc"), 3, "192.0.2.1") as file:
            assert file.read() == b"abc"
        assert not of._open

    asyncio.run(run())


def test_a_large_body_of_a_stranger_has_to_be_complete_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_bodies, "OPEN_DEADLINE_S", 0.4)
    # A tenant's would have hours.
    quick_enough = [part for _ in range(100) for part in (b"x" * 20 * KB, 0.05)]

    async def run() -> int:
        with pytest.raises(Refusal) as refusal:
            async with Bodies().of_network(sender(*quick_enough), 2000 * KB, "192.0.2.1"):
                pass
        return refusal.value.problem.status

    assert asyncio.run(run()) == 408


@pytest.fixture
def free_kb(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Says how many kB the disk has beyond what is kept free."""

    def says(kb: int) -> None:
        usage = SimpleNamespace(free=request_bodies.KEEP_FREE + kb * KB)
        monkeypatch.setattr(request_bodies.shutil, "disk_usage", lambda path: usage)

    return says


async def only_tenant() -> bool:
    return True


async def refused(of: Bodies, kb: int, tenant: str, **how: Any) -> Problem:
    with pytest.raises(Refusal) as refusal:
        async with of.large(sender(b"abc"), kb * KB, tenant, **how):
            pass
    return refusal.value.problem


def test_the_disk_is_not_filled(free_kb: Callable[[int], None], settings: Any) -> None:
    free_kb(1000)

    async def run() -> None:
        of = Bodies()
        # Of a form twice its size is needed, of anything else its size.
        for kb, copied in ((501, True), (1001, False)):
            with pytest.raises(StorageFull):
                async with of.large(sender(b""), kb * KB, "t", copied=copied, is_only_tenant=only_tenant):
                    pass
        for kb, copied in ((500, True), (1000, False)):
            content, how = b"x" * kb * KB, {"copied": copied, "is_only_tenant": only_tenant}
            async with of.large(sender(content), kb * KB, "t", **how) as file:
                assert file.read() == content
        settings.MAX_IMPORT_BYTES = 1
        assert (await refused(of, 2**22, "t")).status == 413

    asyncio.run(run())


def test_a_slow_large_body_leaves_others_their_room(free_kb: Callable[[int], None]) -> None:
    """Whatever one of several tenants sends, and however slowly, half of what is free is there for the next."""
    free_kb(1000)

    async def run() -> None:
        of = Bodies()
        # Also where it holds nothing yet.
        for kb, copied in ((501, False), (251, True)):
            problem = await refused(of, kb, "slow", copied=copied)
            assert (problem.slug, problem.status) == ("storage-full", 507)
            assert "one workspace may take 0 MiB" in problem.detail
        slow = asyncio.create_task(spooled(of, sender(b"x", 99.0, b""), 450 * KB, "slow"))
        await pause_async(0.01, "what is under way goes as far as it can")
        # Its second counts with its first, and waiting helps.
        problem = await refused(of, 60, "slow")
        assert (problem.slug, problem.status) == ("too-many-uploads", 429)
        assert await spooled(of, sender(b"x" * 50 * KB), 50 * KB, "slow") == b"x" * 50 * KB
        # Of the 550 that are left, the same holds for the next one.
        assert await spooled(of, sender(b"x" * 275 * KB), 275 * KB, "other") == b"x" * 275 * KB
        assert (await refused(of, 276, "other")).status == 507
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        assert await spooled(of, sender(b"x" * 500 * KB), 500 * KB, "other") == b"x" * 500 * KB

    asyncio.run(run())


def test_what_is_written_is_reserved_no_longer(free_kb: Callable[[int], None]) -> None:
    """The disk itself tells of what was written: counted twice, others would be refused what is there."""
    free_kb(1000)

    async def run() -> None:
        of, content = Bodies(), b"x" * 200 * KB
        async with of.large(sender(content), 200 * KB, "one", copied=True) as form:
            free_kb(800)  # the body is on the disk, its copy is not
            assert (await refused(of, 301, "other")).status == 507
            assert form.read(150 * KB) + form.readline(50 * KB) == content
            free_kb(600)
            assert (await refused(of, 301, "other")).status == 507
            assert await spooled(of, sender(b"x" * 300 * KB), 300 * KB, "other") == b"x" * 300 * KB
            # Its own part is still of what would be free without it.
            assert (await refused(of, 101, "one")).status == 429
            assert await spooled(of, sender(b"x" * 100 * KB), 100 * KB, "one") == b"x" * 100 * KB

    asyncio.run(run())


class _Answered(list[bytes]):
    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("method", "kind", "more", "fits_kb"),
    [
        ("POST", "multipart/form-data; boundary=x", {}, 250),
        ("PATCH", TUS_PART, {b"upload-checksum": b"sha1 x"}, 250),
        ("POST", "application/json", {}, 500),
    ],
)
def test_what_a_view_copies_needs_its_size_twice(
    free_kb: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    kind: str,
    more: dict[bytes, bytes],
    fits_kb: int,
) -> None:
    def view(environ: dict[str, Any], start: Callable[..., None]) -> _Answered:
        with observe.bound(observe.tenant_id, "t"):
            read = len(environ["wsgi.input"].read())
        start("200 OK", [])
        return _Answered([str(read).encode()])

    async def sends(kb: int) -> tuple[int, bytes]:
        headers = {b"content-type": kind.encode(), b"content-length": str(kb * KB).encode(), **more}
        scope = {
            "type": "http",
            "method": method,
            "path": "/",
            "query_string": b"",
            "headers": [*headers.items()],
        }
        answer = await bridge.ask({"http_version": "1.1", **scope}, sender(b"x" * kb * KB))
        return answer.status, answer.body

    free_kb(1000)
    bridge = Bridge(view, 4)
    monkeypatch.setattr("config.bridge.is_only_tenant", lambda: False)
    assert asyncio.run(sends(fits_kb)) == (200, str(fits_kb * KB).encode())
    assert asyncio.run(sends(fits_kb + 1))[0] == 507
    # Alone it may take all.
    monkeypatch.setattr("config.bridge.is_only_tenant", lambda: True)
    assert asyncio.run(sends(2 * fits_kb))[0] == 200

    def away() -> bool:
        raise OperationalError

    monkeypatch.setattr("config.bridge.is_only_tenant", away)
    assert asyncio.run(sends(2 * fits_kb))[0] == 503


def test_kinds_of_long_requests_never_take_the_last_threads() -> None:
    within = Threads(5)
    one, two = Threads(4, within), Threads(4, within)
    assert [one.take() for _ in range(5)] == [True] * 4 + [False]
    assert [two.take() for _ in range(3)] == [True, False, False]
    one.give_back()
    assert [two.take() for _ in range(2)] == [True, False]


def test_every_kind_is_bounded_by_half_of_the_threads() -> None:
    from django.conf import settings

    from tenants import long_requests

    kinds = (
        long_requests.WAITING,
        long_requests.UPLOADING,
        long_requests.PREVIEWING,
        long_requests.FINGERPRINTING,
        long_requests.CHECKING,
    )
    taken = [kind for kind in kinds for _ in range(settings.WEB_THREADS) if kind.take()]
    try:
        assert len(taken) == settings.WEB_THREADS // 2
    finally:
        for kind in taken:
            kind.give_back()
