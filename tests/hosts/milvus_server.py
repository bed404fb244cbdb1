"""A real Milvus server of a session of tests: the pip package `milvus`, started with a folder and ports of its own.

As a program it is that server, and writes its address; it ends when its input does.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def missing() -> str:
    """What stands in the way; empty where nothing does."""
    needed = ["pymilvus"] if os.environ.get("MILVUS_TEST_URL") else ["pymilvus", "milvus"]
    absent = [name for name in needed if importlib.util.find_spec(name) is None]
    return f"pip install {' '.join(absent)}, or name a server by MILVUS_TEST_URL" if absent else ""


@contextmanager
def milvus_server(folder: Path) -> Iterator[str]:
    """Its address, for as long as the context lasts."""
    if address := os.environ.get("MILVUS_TEST_URL"):
        yield address
        return
    with subprocess.Popen(
        [sys.executable, __file__, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the Milvus server did not start"
        try:
            yield address
        finally:
            process.stdin.close()
            process.wait(30)


if __name__ == "__main__":
    from milvus import default_server

    default_server.set_base_dir(sys.argv[1])
    with default_server:
        sys.stdout.write(f"http://127.0.0.1:{default_server.listen_port}\n")
        sys.stdout.flush()
        sys.stdin.read()
