"""Bodies of requests, read by the event loop before a thread is taken: a slow sender holds nothing but memory.

A body up to SMALL bytes is read before anybody is known, into memory. A larger one is read only after Django has looked
at the request's headers and wants its body (config.bridge), so on behalf of a tenant, into an anonymous file in
SPOOL_DIR. All have to come at a least rate and by a deadline.

Small ones are bounded by address, and where there are too many, the one that has taken longest is given up: somebody
who sends at once is served however many slow ones share the address, as behind a proxy that is not trusted. Large ones
are bounded by tenant, and what is over the bound is refused. Where a view takes a large one from anybody, it is bounded
by network and has to be complete soon: places for strangers are few, and none is a tenant's.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from tempfile import TemporaryFile
from typing import IO, Any, cast

from django.conf import settings

from api.problems import Problem, Refusal, too_large
from tenants.accounts.networks import network_of
from tenants.errors import StorageFull, room_on_disk

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

SMALL = 64 * 1024
# Before the rate counts; and the longest silence after that.
GRACE_S = 15.0
STALLED_S = 30.0
MAX_SMALL = 512
MAX_SMALL_OF_ADDRESS = 64
MAX_LARGE = 256
MAX_LARGE_OF_TENANT = 24
# Of whom nobody knows: at a time in all, of one network, and when each has to be complete.
MAX_OPEN = 8
MAX_OPEN_OF_NETWORK = 2
OPEN_DEADLINE_S = 300.0
# What is collected in memory between two writes to the disk, which may block.
BATCH = 256 * 1024
# A window of a body that is handed over while it comes: at most so much, and not held back longer than this.
WINDOW = 1024 * 1024
WINDOW_S = 5.0
WRITERS = 2
# Left free on the disk for everything else.
KEEP_FREE = 512 * 1024 * 1024
# Of what is free, bodies of one tenant may take one part of so many: the other is there for whoever comes next. The
# only tenant of an installation may take all of it.
PARTS = 2

TOO_SLOW = Problem(
    "too-slow",
    408,
    "The body came too slowly",
    "Send the body at once, or large files in parts (/uploads).",
    headers={"Connection": "close"},
)
TOO_MANY = Problem(
    "too-many-uploads",
    429,
    "Too many uploads at once",
    f"A workspace sends at most {MAX_LARGE_OF_TENANT} large bodies at a time. Wait until one of them has ended.",
    headers={"Retry-After": "5", "Connection": "close"},
)
HOLDS_ITS_PART = Problem(
    "too-many-uploads",
    429,
    "Too many uploads at once",
    "The uploads that this workspace is sending hold its part of the free disk. Wait until one of them has ended, or "
    "send this one in parts (/uploads).",
    headers={"Retry-After": "5", "Connection": "close"},
)
TOO_MANY_OF_NETWORK = Problem(
    "too-many-uploads",
    429,
    "Too many uploads at once",
    f"At most {MAX_OPEN_OF_NETWORK} files at a time are taken from your network. Wait until one of them has ended.",
    headers={"Retry-After": "5", "Connection": "close"},
)
BUSY = Problem(
    "unavailable",
    503,
    "Not available at the moment",
    "Too many uploads run at this moment. Try again soon.",
    headers={"Retry-After": "5", "Connection": "close"},
)


class ClientLeft(Exception):
    """The connection ended before the body was complete; there is nobody to answer."""


class Incoming:
    """One body while it comes. `timer` is around its reading, and ends it when it is too slow."""

    def __init__(self, receive: Receive, timer: asyncio.Timeout, deadline_s: float = math.inf) -> None:
        self._receive, self._timer = receive, timer
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + min(deadline_s, settings.BODY_DEADLINE_S)
        self._until = min(self._loop.time() + GRACE_S, self._end)
        self._given_up = False
        timer.reschedule(self._until)

    async def parts(self, length: int) -> AsyncIterator[bytes]:
        """The parts as they come. Raises ClientLeft, also where fewer bytes came than were announced."""
        received, more = 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientLeft
            part, more = message.get("body", b""), message.get("more_body", False)
            received += len(part)
            self._extend_deadline(len(part))
            if part:
                yield part
        if received != length:
            raise ClientLeft

    def _extend_deadline(self, size: int) -> None:
        """Each byte is worth some time; what came fast is no credit for more than the longest silence."""
        now = self._loop.time()
        self._until = min(self._until + size / settings.BODY_LEAST_RATE, now + STALLED_S, self._end)
        if not self._given_up:
            self._timer.reschedule(self._until)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While the server works on what came, the client's time stands still."""
        self._timer.reschedule(None)
        begun = self._loop.time()
        yield
        self._until += self._loop.time() - begun
        self._timer.reschedule(min(self._until, self._end))

    def give_up(self) -> None:
        self._given_up = True
        self._timer.reschedule(self._loop.time())


class Reservation:
    """Room on the disk for one body: `needed` bytes, of which `left` are still to be written."""

    def __init__(self, needed: int) -> None:
        self.needed = self.left = needed

    def written(self, size: int) -> None:
        self.left = max(0, self.left - size)


class _Copied(io.BufferedIOBase):
    """A spooled body whose parts are written a second time as they are read: room for these is no longer reserved."""

    def __init__(self, file: IO[bytes], reservation: Reservation) -> None:
        self._file, self._reservation = file, reservation

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(self._file.read(-1 if size is None else size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._counted(self._file.readline(-1 if size is None else size))

    def _counted(self, part: bytes) -> bytes:
        self._reservation.written(len(part))
        return part


class Bodies:
    """All bodies that this process is reading."""

    def __init__(self) -> None:
        # By address, the longest open first; and all of them in that order.
        self._small: dict[str, dict[Incoming, None]] = {}
        self._all_small: dict[Incoming, str] = {}
        # By tenant.
        self._large: Counter[str] = Counter()
        self._reservations: dict[str, set[Reservation]] = {}
        # By network: large bodies of whom nobody knows.
        self._open: Counter[str] = Counter()
        self._writers = ThreadPoolExecutor(WRITERS, thread_name_prefix="spool")

    async def small(self, receive: Receive, length: int, address: str) -> IO[bytes]:
        """A body of up to SMALL bytes, of whoever it is. Raises Refusal (too slow), ClientLeft."""
        try:
            async with asyncio.timeout(None) as timer:
                body = Incoming(receive, timer)
                with self._counted(body, network_of(address)):
                    return io.BytesIO(b"".join([part async for part in body.parts(length)]))
        except TimeoutError as error:
            raise Refusal(TOO_SLOW) from error

    @contextlib.contextmanager
    def _counted(self, body: Incoming, network: str) -> Iterator[None]:
        own = self._small.setdefault(network, {})
        if len(own) >= MAX_SMALL_OF_ADDRESS:
            next(iter(own)).give_up()
            self._forget(next(iter(own)))
        elif len(self._all_small) >= MAX_SMALL:
            oldest = next(iter(self._all_small))
            oldest.give_up()
            self._forget(oldest)
        self._small.setdefault(network, {})[body] = None
        self._all_small[body] = network
        try:
            yield
        finally:
            self._forget(body)

    def _forget(self, body: Incoming) -> None:
        network = self._all_small.pop(body, None)
        if network is None:
            return
        own = self._small[network]
        del own[body]
        if not own:
            del self._small[network]

    @contextlib.asynccontextmanager
    async def large(
        self,
        receive: Receive,
        length: int,
        tenant: str,
        *,
        copied: bool = False,
        is_only_tenant: Callable[[], Awaitable[bool]] | None = None,
        deadline_s: float = math.inf,
    ) -> AsyncIterator[IO[bytes]]:
        """A whole body of a tenant as a file, which keeps the tenant's place until it is closed.

        `copied` says that whoever reads it writes it to the disk once more. `is_only_tenant` is asked where the body
        needs more of the disk than one of several tenants may take; without it there are others.
        Raises Refusal (too slow, too many, too large, more than its part of the disk), StorageFull, ClientLeft.
        """
        needed = 2 * length if copied else length
        with self._place(tenant, length):
            whole = needed > self._share(tenant) and is_only_tenant is not None and await is_only_tenant()
            with (
                self._reserved(tenant, needed, whole) as reservation,
                room_on_disk(),
                TemporaryFile(dir=settings.SPOOL_DIR) as file,
            ):
                async with contextlib.aclosing(
                    _batches(receive, length, BATCH, deadline_s=deadline_s)
                ) as batches:
                    async for batch in batches:
                        await asyncio.get_running_loop().run_in_executor(self._writers, file.write, batch)
                        reservation.written(len(batch))
                file.seek(0)
                yield cast(IO[bytes], _Copied(file, reservation)) if copied else file

    @contextlib.asynccontextmanager
    async def of_network(
        self, receive: Receive, length: int, network: str, *, copied: bool = False
    ) -> AsyncIterator[IO[bytes]]:
        """As `large`, of somebody of whom only the network is known."""
        if self._open[network] >= MAX_OPEN_OF_NETWORK:
            raise Refusal(TOO_MANY_OF_NETWORK)
        if self._open.total() >= MAX_OPEN:
            raise Refusal(BUSY)
        self._open[network] += 1
        try:
            async with self.large(
                receive, length, f"network {network}", copied=copied, deadline_s=OPEN_DEADLINE_S
            ) as file:
                yield file
        finally:
            self._open[network] -= 1
            if not self._open[network]:
                del self._open[network]

    @contextlib.asynccontextmanager
    async def windows(
        self, receive: Receive, length: int, tenant: str
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """A body of a tenant in parts of about WINDOW bytes, to be used before the rest is there.

        They end with what had come before the client left or became too slow; then ClientLeft or Refusal is raised.
        """
        with self._place(tenant, length):
            async with contextlib.aclosing(_batches(receive, length, WINDOW, WINDOW_S)) as windows:
                yield windows

    @contextlib.contextmanager
    def _place(self, tenant: str, length: int) -> Iterator[None]:
        if length > settings.MAX_IMPORT_BYTES + settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            raise Refusal(too_large(f"A body may have {settings.MAX_IMPORT_BYTES // 2**20} MiB."))
        if self._large[tenant] >= MAX_LARGE_OF_TENANT:
            raise Refusal(TOO_MANY)
        if self._large.total() >= MAX_LARGE:
            raise Refusal(BUSY)
        self._large[tenant] += 1
        try:
            yield
        finally:
            self._large[tenant] -= 1
            if not self._large[tenant]:
                del self._large[tenant]

    @contextlib.contextmanager
    def _reserved(self, tenant: str, needed: int, whole: bool) -> Iterator[Reservation]:
        """Room on the disk: of a tenant's part of what is free, or with `whole` of all of it."""
        if needed > self._free():
            raise StorageFull
        own = self._reservations.get(tenant, set())
        if not whole and needed > self._share(tenant):
            raise Refusal(HOLDS_ITS_PART if own else _more_than_its_part(needed, self._share(tenant)))
        reservation = Reservation(needed)
        self._reservations.setdefault(tenant, set()).add(reservation)
        try:
            yield reservation
        finally:
            own = self._reservations[tenant]
            own.remove(reservation)
            if not own:
                del self._reservations[tenant]

    def _free(self) -> int:
        """Bytes of the disk that nothing is expected to need."""
        expected = sum(each.left for own in self._reservations.values() for each in own)
        return shutil.disk_usage(settings.SPOOL_DIR).free - KEEP_FREE - expected

    def _share(self, tenant: str) -> int:
        """Bytes that a further body of the tenant may need: what its others leave of its part.

        That is a part of what would be free if it sent nothing, so that its own bodies do not make it smaller.
        """
        held = sum(each.needed for each in self._reservations.get(tenant, ()))
        return (self._free() + held) // PARTS - held


def _more_than_its_part(needed: int, share: int) -> Problem:
    return Problem(
        "storage-full",
        507,
        "There is no room",
        f"This body needs {math.ceil(needed / 2**20)} MiB of the disk while it is received, and one workspace may take "
        f"{max(share, 0) // 2**20} MiB at this moment. Send the file in parts (/uploads), or divide it.",
        headers={"Connection": "close"},
    )


async def _batches(
    receive: Receive, length: int, size: int, within_s: float = math.inf, deadline_s: float = math.inf
) -> AsyncGenerator[bytes, None]:
    """The body in parts of at least `size` bytes, or what came within so many seconds; last, what is left of it.

    Then raises ClientLeft or Refusal if it is not complete.
    """
    loop = asyncio.get_running_loop()
    batch, since = bytearray(), loop.time()
    failure: Exception | None = None
    try:
        async with asyncio.timeout(None) as timer:
            body = Incoming(receive, timer, deadline_s)
            async for part in body.parts(length):
                batch += part
                if len(batch) >= size or loop.time() - since >= within_s:
                    with body.paused():
                        yield bytes(batch)
                    batch.clear()
                    since = loop.time()
    except TimeoutError:
        failure = Refusal(TOO_SLOW)
    except ClientLeft as error:
        failure = error
    if batch:
        yield bytes(batch)
    if failure is not None:
        raise failure
