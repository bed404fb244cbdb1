"""The decoding process: one request line in, an answer of several pieces out, until its input ends or a limit
kills it.

Run as ``python -m ml.media.child MEMORY_BYTES`` by ``ml.media.process``. A request is a JSON line on the socket that is
its standard input, with the file that it is about as an open descriptor; a piece is a JSON line that names the sizes of
the binary parts that follow it; the last one has ``end``. What a hostile file can break here dies with the process:
address space, CPU time and wall time are limited, and ``ml.sandbox`` leaves it no file, network or other process. A
piece that nobody reads holds the process up without any time limit; it ends when the pipe does.
"""

from __future__ import annotations

import array
import importlib
import json
import math
import os
import pkgutil
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ml import sandbox
from ml.media.model import DescriptorFile, MediaError

Piece = tuple[dict[str, Any], list[bytes]]
Pieces = Callable[[dict[str, Any]], Iterator[Piece]]

END: Piece = ({"end": True}, [])
#: Of a request that is read at once.
CHUNK = 1 << 16


def serve(memory_bytes: int, pieces: Pieces, confine: Callable[[], object], files: int = 64) -> None:
    """Answer requests from standard input until it ends, which it does when the parent dies.

    `pieces` makes the answers. `confine` limits what this process may do, before the first request is read; `files` may
    be open at a time.
    """
    # Whatever a library prints must not end up between answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    requests = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    confine()
    _limit(memory_bytes, files)
    for request in _requests(requests):
        for header, parts in answer(request, pieces):
            _write(answers, json.dumps({**header, "sizes": [len(part) for part in parts]}).encode() + b"\n")
            for part in parts:
                _write(answers, part)


def _requests(source: socket.socket) -> Iterator[dict[str, Any]]:
    """Each request; its ``file`` is the one that came with it, None where there was none. Closed when the next is
    wanted."""
    while True:
        line, descriptors = bytearray(), array.array("i")
        while not line.endswith(b"\n"):
            content, ancillary, _, _ = source.recvmsg(CHUNK, socket.CMSG_SPACE(descriptors.itemsize))
            if not content:
                return
            line += content
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    descriptors.frombytes(data)
        file = DescriptorFile(descriptors[0]) if descriptors else None
        try:
            yield {**json.loads(line), "file": file}
        finally:
            if file:
                file.close()


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
    kind, file = request["kind"], request["file"]
    if kind == "image":
        from ml.media import pictures

        yield pictures.decode(file, request["max_pixels"], request["thumbnail"])
    elif kind in ("audio", "sound"):
        from ml.media import sound

        if kind == "audio":
            yield from sound.decode(file, request["seconds"])
        else:
            yield from sound.pieces(file, request["piece_s"], request["max_seconds"])
    elif kind == "frames":
        from ml.media import film

        yield from film.frames(file, request["max_frames"], request["max_seconds"])
    elif kind == "moments":
        from ml.media import film

        yield from film.moments(file, request["max_moments"], request["max_seconds"])
    elif kind == "probe":
        from ml.media import probing

        yield probing.probe(file, request["max_seconds"]), []
    else:
        from ml.media import remux

        yield from remux.strip_metadata(file)


def load_codecs() -> None:
    """Import whatever any request may need: afterwards no file has to be opened."""
    for codec in ("cp1252", "latin_1", "utf_16", "utf_16_be", "utf_16_le"):
        importlib.import_module(f"encodings.{codec}")

    import av
    from PIL import Image

    from ml.media import film, pictures, probing, remux, sound  # noqa: F401

    Image.init()
    # PyAV imports a kind of stream when it meets the first one.
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def _limit(memory_bytes: int, files: int) -> None:
    if memory_bytes:  # else the parent looks at what is resident (ml.media.process)
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


def main(memory_bytes: str) -> None:
    """Decode what is asked for."""
    before = _address_space()
    load_codecs()
    # All codecs map 190 MB: a picture has as much room as if its own were the only one.
    mapped = _address_space() - before
    serve(int(memory_bytes) + mapped, _pieces, lambda: sandbox.confine("decoder"))


def _address_space() -> int:
    """Bytes that this process has mapped."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(*sys.argv[1:])
