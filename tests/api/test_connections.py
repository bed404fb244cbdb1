"""Connections that nobody uses, on real sockets of this process."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from config import connections
from config.connections import Connections
from tests.waiting import PATIENCE_S, pause


class Pair:
    """A client and the server's side of its connection."""

    def __init__(self, listener: socket.socket) -> None:
        self.client = socket.create_connection(listener.getsockname(), timeout=PATIENCE_S)
        self.server, address = listener.accept()
        # As granian has it.
        self.scope = {"client": (address[0], str(address[1]))}

    @property
    def is_closed(self) -> bool:
        if not select.select([self.client], [], [], 0)[0]:
            return False
        try:
            return self.client.recv(1, socket.MSG_PEEK) == b""
        except ConnectionResetError:
            return True


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_BYTE_S", 0.2)
    monkeypatch.setattr(connections, "IDLE_S", 0.6)
    monkeypatch.setattr(connections, "CROWDED_S", 0.1)
    monkeypatch.setattr(connections, "LOOKED_AT_S", 0.2)


def test_idle_connections_are_closed_and_those_that_ask_are_not(listener: socket.socket) -> None:
    of = Connections()
    silent, asks, between = Pair(listener), Pair(listener), Pair(listener)
    for pair in (asks, between):
        pair.client.sendall(b"GET")
    with of.asking(asks.scope):
        assert of.sweep() == 0
        pause(0.3, "the kernel counts for how long nothing came")
        of.sweep()
        assert [pair.is_closed for pair in (silent, asks, between)] == [True, False, False]
        pause(0.5, "the kernel counts for how long nothing came")
        of.sweep()
        assert [pair.is_closed for pair in (asks, between)] == [False, True]
    of.sweep()
    assert asks.is_closed


def test_with_half_of_the_places_taken_idle_ones_go_sooner(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, pairs = Connections(), [Pair(listener) for _ in range(3)]
    for pair in pairs:
        pair.client.sendall(b"GET")
    pause(0.15, "the kernel counts for how long nothing came")
    of.sweep()
    assert not any(pair.is_closed for pair in pairs)
    monkeypatch.setattr(connections.settings, "WEB_CONNECTIONS", 5)
    of.sweep()
    assert all(pair.is_closed for pair in pairs)


def test_who_does_not_take_what_was_asked_for_is_closed(listener: socket.socket) -> None:
    of, slow, takes = Connections(), Pair(listener), Pair(listener)
    for pair in (slow, takes):
        pair.server.setblocking(False)
    with of.asking(slow.scope), of.asking(takes.scope):
        for _ in range(8):
            for pair in (slow, takes):
                try:
                    while pair.server.send(bytes(2**16)):
                        pass
                except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                    pass
            of.sweep()
            taken = 0
            while taken < 2**18:
                taken += len(takes.client.recv(2**16))
            pause(0.15, "the kernel counts for how long nothing came")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            slow.server.send(b"x")
        takes.client.settimeout(0.2)
        assert takes.client.recv(1) == b"\0"


def test_connections_to_elsewhere_are_left_alone(listener: socket.socket) -> None:
    pair = Pair(listener)
    port = listener.getsockname()[1]
    listener.close()
    # Nothing listens at its port any more: this could be one to the database.
    pause(0.3, "the kernel counts for how long nothing came")
    assert all(found.getsockname()[1] != port for found in connections._accepted().values())
    assert Connections().sweep() == 0
    assert not pair.is_closed
