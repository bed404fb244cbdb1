"""Detectors that do what a hostile file could make one do, and an examining process that knows them."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from ml.detectors.base import Category, Detector, Finding, Item, Words
from tests.waiting import pause

ALL = frozenset({"text", "image", "audio", "video"})


class Odd(Detector):
    tier = "rules"
    modalities = ALL
    sees = "nothing"
    blind_to = "everything"
    timeout_s: ClassVar[float] = 1.0

    def __init__(self, name: str, act: Callable[[Item], Finding], order: int = 50) -> None:
        self.name, self._act, self.order = name, act, order

    def examine(self, item: Item) -> Finding:
        return self._act(item)


class Patient(Odd):
    """One whose end does not come from its time."""

    timeout_s: ClassVar[float] = 30.0


def _crash(item: Item) -> Finding:
    os.kill(os.getpid(), signal.SIGSEGV)
    return Finding()


def _sleep(item: Item) -> Finding:
    pause(30, "a detector that hangs")
    return Finding()


def _linger(item: Item) -> Finding:
    pause(0.7, "a detector that is slow")
    return Finding()


def _raise(item: Item) -> Finding:
    raise ValueError("cannot make sense of this")


def _hoard(item: Item) -> Finding:
    return Finding(evidence=[{"size": len(bytearray(64 << 30))}])


def _reserve(item: Item) -> Finding:
    """Address space that nobody touches."""
    with mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ):
        return Finding()


def _fill(item: Item) -> Finding:
    kept = bytearray(b"x" * (300 << 20)) * 2
    # Ended as soon as it is, which takes a busy machine a while.
    pause(20, "it is seen")
    return Finding(evidence=[{"size": len(kept)}])


def _babble(item: Item) -> Finding:
    return Finding(evidence=[{"kind": "noise", "text": "x" * 5_000_000}], fields={"kept": True})


def _print(item: Item) -> Finding:
    sys.stdout.write('{"stage": "odd", "sizes": []}\n')
    sys.stdout.flush()
    return Finding()


def _call(item: Item) -> Finding:
    try:
        socket.create_connection(("127.0.0.1", 9), timeout=1).close()
    except PermissionError:
        return Finding(fields={"network": "refused"})
    except OSError as error:
        return Finding(fields={"network": str(error)})
    return Finding(fields={"network": "open"})


def _write(item: Item) -> Finding:
    with Path("/tmp/examined").open("w") as file:
        file.write("x" * 100)
    return Finding()


def _tell(item: Item) -> Finding:
    return Finding(
        fields={
            "item": {
                "modality": item.modality,
                "shape": list(item.pixels.shape) if item.pixels is not None else None,
                "size": [item.width, item.height],
                "shots": [shot.at_s for shot in item.shots],
                "heard_s": len(item.sound) / 16_000,
                "words": [words.text for words in item.words],
                "head": len(item.head),
            }
        },
        categories={"abuse": Category(0.25, True, (0.2, 0.3), [{"start": 0}])},
        pictures={"mask": b"\x89PNG"},
        interval=(0.1, 0.2),
        synthetic=0.15,
        above="none",
    )


def _read(item: Item) -> Finding:
    return Finding(words=[Words("found in it", "picture")])


KNOWN = {
    "crash": _crash,
    "sleep": _sleep,
    "linger": _linger,
    "raise": _raise,
    "hoard": _hoard,
    "reserve": _reserve,
    "fill": _fill,
    "babble": _babble,
    "print": _print,
    "call": _call,
    "write": _write,
    "tell": _tell,
    "read": _read,
}


def load(spec: str) -> Detector:
    kind = Patient if spec == "fill" else Odd
    return kind(spec, KNOWN[spec], order={"read": 10, "tell": 90}.get(spec, 50))


if __name__ == "__main__":
    from ml.auditing import child

    child.load_detector = load
    child.main(sys.argv[1:])
