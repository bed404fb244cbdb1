"""Which jobs have changed, heard over one connection to Valkey however many streams listen in this process.

Not a connection for each stream: the client library swallows a cancellation that comes while it connects, and a
stream whose listener left at that moment kept its place for ever. Nothing of a connection is cancelled here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine

from django.conf import settings
from redis.asyncio.client import PubSub
from redis.exceptions import RedisClusterException

from tenants.valkey import Unavailable, connect_async

log = logging.getLogger(__name__)

# A new listener waits no longer until it hears: without Valkey it reads its row every few seconds all the same.
HEARS_WITHIN_S = 1.0
AGAIN_AFTER_S = 1.0
# The connection is looked at this often while nobody says anything.
QUIET_S = 5.0
_FAULTS = (Unavailable, RedisClusterException, RuntimeError, OSError)


class PubSubListener:
    """What is said on channels of Valkey, as events of the running loop."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[asyncio.Event]] = {}
        self._messages: PubSub | None = None
        self._reader: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = asyncio.Event()
        # Subscribing and leaving one channel must not overtake each other.
        self._turn = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set when something is said on the channel; whoever waits for it clears it."""
        said = asyncio.Event()
        self._listeners.setdefault(channel, set()).add(said)
        try:
            await asyncio.wait({self._start(self._subscribe(channel))}, timeout=HEARS_WITHIN_S)
            yield said
        finally:
            self._listeners[channel].discard(said)
            if not self._listeners[channel]:
                del self._listeners[channel]
                self._start(self._leave(channel))

    def _start(self, act: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(act)
        # The loop itself holds tasks only weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _subscribe(self, channel: str) -> None:
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read())
        await self._open.wait()
        async with self._turn:
            if self._messages is not None and channel in self._listeners:
                with contextlib.suppress(*_FAULTS):
                    await self._messages.subscribe(channel)

    async def _leave(self, channel: str) -> None:
        async with self._turn:
            if self._messages is not None and channel not in self._listeners:
                with contextlib.suppress(*_FAULTS):
                    await self._messages.unsubscribe(channel)

    async def _read(self) -> None:
        """Read as long as anybody listens, over a new connection whenever one broke."""
        while self._listeners:
            try:
                # Made anew each time: where the primary or a server of a Cluster changed, another one is asked.
                async with (
                    connect_async(settings.REDIS_URL) as valkey,
                    valkey.pubsub(ignore_subscribe_messages=True) as messages,
                ):
                    await self._read_from(messages)
            except _FAULTS:
                log.debug("Valkey is away: streams read their rows every few seconds", exc_info=True)
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _read_from(self, messages: PubSub) -> None:
        async with self._turn:
            if not self._listeners:
                return
            await messages.subscribe(*self._listeners)
            self._messages = messages
        self._open.set()
        try:
            # What was said while there was no connection was missed.
            for channel in list(self._listeners):
                self._notify(channel)
            while self._listeners:
                if message := await messages.get_message(timeout=QUIET_S):
                    self._notify(message["channel"].decode())
        finally:
            self._messages = None
            self._open.clear()

    def _notify(self, channel: str) -> None:
        for said in self._listeners.get(channel, ()):
            said.set()
