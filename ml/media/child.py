"""The decoding process: one request line in, an answer of several pieces out, until its input ends or a limit
kills it.

Run as ``python -m ml.media.child MEMORY_BYTES`` by ``ml.media.process``. A request is a JSON line; a piece is
a JSON line that names the sizes of the binary parts that follow it; the last one has ``end``. What a hostile
file can break here dies with the process: address space, CPU time and wall time are limited, writing files is
forbidden. A piece that nobody reads holds the process up without any time limit; it ends when the pipe does.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ml.media.model import MediaError

Piece = tuple[dict[str, Any], list[bytes]]
Pieces = Callable[[dict[str, Any]], Iterator[Piece]]

END: Piece = ({"end": True}, [])


def main(memory_bytes: int, pieces: Pieces | None = None, files: int = 64) -> None:
    """Serve requests from standard input until it ends, which it does when the parent dies.

    `pieces` makes the answers, those of decoding where nothing else is said; `files` may be open at a time.
    """
    # Whatever a library prints must not end up between answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit(memory_bytes, files)
    for line in sys.stdin.buffer:
        for header, parts in answer(json.loads(line), pieces or _pieces):
            _write(answers, json.dumps({**header, "sizes": [len(part) for part in parts]}).encode() + b"\n")
            for part in parts:
                _write(answers, part)


def answer(request: dict[str, Any], make: Pieces) -> Iterator[Piece]:
    """Do one request. A MediaError becomes the end; anything worse than MemoryError ends the process.

    `timeout_s` of the request is the limit of each piece; whoever makes them may change it for the next one.
    """
    pieces = make(request)
    try:
        while True:
            start = time.process_time()
            _arm(request["timeout_s"])
            header, parts = next(pieces, END)
            signal.setitimer(signal.ITIMER_REAL, 0)
            yield {**header, "cpu_s": time.process_time() - start}, parts
            if header.get("end"):
                return
    except MediaError as error:
        yield {"end": True, "code": error.code, "message": error.message}, []
    except MemoryError:
        message = "decoding needs more memory than allowed: send it smaller"
        yield {"end": True, "code": "too-large", "message": message, "exhausted": True}, []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _pieces(request: dict[str, Any]) -> Iterator[Piece]:
    # Imported on demand: a child that only sees pictures never loads FFmpeg.
    kind, path = request["kind"], request["path"]
    if kind == "image":
        from ml.media import pictures

        yield pictures.decode(path, request["max_pixels"], request["thumbnail"])
    elif kind in ("audio", "sound"):
        from ml.media import sound

        if kind == "audio":
            yield from sound.decode(path, request["seconds"])
        else:
            yield from sound.pieces(path, request["piece_s"], request["max_seconds"])
    elif kind == "frames":
        from ml.media import film

        yield from film.frames(path, request["max_frames"], request["max_seconds"])
    elif kind == "probe":
        from ml.media import probing

        yield probing.probe(path, request["max_seconds"]), []
    else:
        from ml.media import remux

        yield from remux.clean(path)


def _limit(memory_bytes: int, files: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _arm(timeout_s: float) -> None:
    """End this process a little after the parent should have: for the case that the parent is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = math.ceil(used.ru_utime + used.ru_stime + timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (spent, resource.RLIM_INFINITY))
    signal.setitimer(signal.ITIMER_REAL, timeout_s + 2)


def _write(stream: BinaryIO, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[stream.write(view) :]


if __name__ == "__main__":
    main(int(sys.argv[1]))
