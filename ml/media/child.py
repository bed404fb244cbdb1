"""The decoding process: one request line in, one answer out, until its input ends or a limit kills it.

Run as ``python -m ml.media.child MEMORY_BYTES`` by ``ml.media.process``. A request is a JSON line; an answer
is a JSON line that names the sizes of the binary parts that follow it. What a hostile file can break here
dies with the process: address space, CPU time and wall time are limited, writing files is forbidden.
"""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
import time
from typing import Any, BinaryIO

from ml.media.model import MediaError


def main(memory_bytes: int) -> None:
    """Serve requests from standard input until it ends, which it does when the parent dies."""
    # Whatever a library prints must not end up between answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    _limit(memory_bytes)
    for line in sys.stdin.buffer:
        header, parts = answer(json.loads(line))
        _write(answers, json.dumps({**header, "sizes": [len(part) for part in parts]}).encode() + b"\n")
        for part in parts:
            _write(answers, part)


def answer(request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    """Do one request. A MediaError becomes an answer; anything worse than MemoryError ends the process."""
    _arm(request["timeout_s"])
    start = time.process_time()
    try:
        header, parts = _decode(request)
        return {**header, "cpu_s": time.process_time() - start}, parts
    except MediaError as error:
        return {"code": error.code, "message": error.message}, []
    except MemoryError:
        return {"code": "too-large", "message": "decoding needs more memory than allowed"}, []
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _decode(request: dict[str, Any]) -> tuple[dict[str, Any], list[bytes]]:
    # Imported on demand: a child that only sees pictures never loads FFmpeg.
    if request["kind"] == "image":
        from ml.media import pictures

        return pictures.decode(request["path"], request["max_pixels"], request["thumbnail"])
    from ml.media import sound

    return sound.decode(request["path"], request["max_seconds"])


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
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
