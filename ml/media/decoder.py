"""The parent's side of limited decoding: a small pool of child processes behind two calls.

A child costs about 0.1 s to start, so it is kept and used again; it is replaced after ``JOBS_PER_CHILD``
files, after any failure that is not a plain refusal, and killed when it takes too long.
"""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.media.model import DecodedImage, MediaError
from ml.media.process import Child, ChildDied, ChildTimeout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

JOBS_PER_CHILD = 500

#: Enough for 64 megapixels in every format but WebP, whose decoder keeps copies: about 40, and beyond that
#: ``too-large``.
DEFAULT_MEMORY = 3 << 29
DEFAULT_MAX_PIXELS = 64_000_000

#: Below this float peak is silence; one step of 16-bit noise is 3e-5.
SILENT_PEAK = 1e-4

# numpy is imported where pixels arrive: the child imports this package too and starts faster without it.


class Decoder:
    """Decodes files of unknown origin in child processes. Thread-safe; survives fork and a child's death.

    ``memory_bytes`` limits a child's address space, ``timeout_s`` the wall time of one file, ``children`` how
    many files are decoded at once (further callers wait), ``max_pixels`` the size of a picture.
    """

    def __init__(
        self,
        memory_bytes: int = DEFAULT_MEMORY,
        timeout_s: float = 20.0,
        *,
        children: int = 2,
        max_pixels: int = DEFAULT_MAX_PIXELS,
    ) -> None:
        self.memory_bytes, self.timeout_s, self.max_pixels = memory_bytes, timeout_s, max_pixels
        self._slots = threading.BoundedSemaphore(children)
        self._children = children
        self._idle: list[Child] = []
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def image(self, path: str | os.PathLike[str], *, thumbnail: bool = True) -> DecodedImage:
        """Decode a JPEG, PNG, WebP, GIF or AVIF picture. Raises MediaError.

        Without ``thumbnail`` some milliseconds are saved and ``DecodedImage.thumbnail`` is empty.
        """
        import numpy as np

        request = {"kind": "image", "max_pixels": self.max_pixels, "thumbnail": thumbnail}
        header, parts = self._ask(path, request)
        pixels = np.frombuffer(parts[0], np.uint8).reshape(*header["shape"], 3)
        return DecodedImage(
            pixels=pixels,
            width=header["width"],
            height=header["height"],
            format=header["format"],
            frames=header["frames"],
            has_location=header["has_location"],
            thumbnail=bytes(parts[1]),
            clean=bytes(parts[2]) if len(parts) > 2 else None,
            clean_type=header.get("clean_type"),
            cpu_s=header["cpu_s"],
        )

    def audio(self, path: str | os.PathLike[str], max_seconds: float = 60) -> NDArray[np.float32]:
        """Decode sound to float32 [n] mono 16 kHz in -1..1, cut after ``max_seconds``. Raises MediaError.

        WAV, MP3, FLAC, Ogg, WebM and M4A, also the sound of MP4 and WebM video. Shorter than 0.1 s or silent:
        code ``empty``; no sound stream: ``unsupported``.
        """
        import numpy as np

        _, parts = self._ask(path, {"kind": "audio", "max_seconds": max_seconds})
        samples = np.frombuffer(parts[0], np.int16).astype(np.float32)
        samples /= 32768
        if float(np.abs(samples).max()) < SILENT_PEAK:
            raise MediaError("empty", "the sound is silent")
        return samples

    def close(self) -> None:
        """End the idle children. A closed decoder starts new ones when it is used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.stop()

    def __enter__(self) -> Decoder:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _ask(self, path: str | os.PathLike[str], request: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
        _check_file(path)
        self._forget_after_fork()
        request |= {"path": str(Path(path).absolute()), "timeout_s": self.timeout_s}
        with self._slots:
            # Waiting for a free child is not the file's fault: its time starts here.
            header, parts = self._run(request, time.monotonic() + self.timeout_s)
        if "code" in header:
            raise MediaError(header["code"], header["message"])
        return header, parts

    def _run(self, request: dict[str, Any], deadline: float) -> tuple[dict[str, Any], list[Any]]:
        child: Child | None = self._take()
        assert child is not None  # noqa: S101 - for the type checker
        try:
            header, parts = child.ask(request, deadline)
        except ChildTimeout:
            raise MediaError("timeout", f"decoding took longer than {self.timeout_s:g} s") from None
        except ChildDied:
            raise MediaError("decoder-died", "decoding the file ended the decoder process") from None
        else:
            if child.jobs < JOBS_PER_CHILD and header.get("code") != "too-large":
                self._give_back(child)
                child = None
            return header, parts
        finally:
            if child is not None:
                child.stop()

    def _take(self) -> Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.alive():
                    return child
                child.stop()
        return Child(self.memory_bytes)

    def _give_back(self, child: Child) -> None:
        with self._lock:
            self._idle.append(child)

    def _forget_after_fork(self) -> None:
        """A forked process shares its parent's pipes: it must start children of its own."""
        if os.getpid() != self._owner:
            self._lock, self._idle = threading.Lock(), []
            self._slots = threading.BoundedSemaphore(self._children)
            self._owner = os.getpid()


def _check_file(path: str | os.PathLike[str]) -> None:
    """Missing files raise OSError (the caller's mistake); devices, pipes and empty files are refused."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("unsupported", "not a regular file")
    if status.st_size == 0:
        raise MediaError("empty", "the file is empty")
