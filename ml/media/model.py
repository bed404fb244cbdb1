"""What decoding gives, and how it fails. Shared by parent and child; imports no numpy at run time."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Code = Literal["unsupported", "corrupt", "too-large", "timeout", "empty", "decoder-died"]

#: Another try may end otherwise: the machine was busy, or somebody else ended the process.
TRANSIENT = frozenset({"timeout", "decoder-died"})

CODES: tuple[str, ...] = get_args(Code)


class MediaError(Exception):
    """A file that cannot be used. ``code`` is for programs, the message for the person who sent the file.

    ``cpu_s``: processor seconds that finding this out took, beside what pieces that came before it told.
    """

    cpu_s = 0.0

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


@dataclass(frozen=True)
class DecodedImage:
    """One picture, ready for an encoder and for a page.

    ``pixels``: uint8 [h, w, 3] sRGB, orientation applied, on white, longest side at most 1024.
    ``width``, ``height``: of the original after orientation. ``format``: JPEG, PNG, WEBP, GIF, AVIF or HEIF.
    ``frames``: 1 unless animated; only the first is decoded. ``thumbnail``: JPEG, longest side at most 384
    (empty when not asked for). ``clean``: with ``has_location``, and of HEIF, which no browser shows, always: the
    picture re-encoded at full size without any metadata, of media type ``clean_type``; None otherwise. ``cpu_s``:
    processor seconds of the decoding.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    frames: int
    has_location: bool
    thumbnail: bytes
    clean: bytes | None
    clean_type: str | None
    cpu_s: float = 0.0


@dataclass(frozen=True)
class MediaInfo:
    """What a sound or film is, measured rather than believed.

    ``media_type``: refined by content: an MP4 or WebM with only sound is audio/mp4 or audio/webm.
    ``duration_s``: by the packets. ``width``, ``height``: as shown, after rotation and pixel shape; None for
    sound. ``has_picture``: a film; cover art does not count. ``frame_rate``: the average, None where unknown or
    for sound. ``codecs``: of all streams. ``has_location``: metadata, streams or unknown parts that tell a
    place, or may; ``Decoder.clean`` gives a copy without. ``truncated``: the header promises more than there is.
    """

    media_type: str
    duration_s: float
    width: int | None
    height: int | None
    has_sound: bool
    has_picture: bool
    frame_rate: float | None
    codecs: tuple[str, ...]
    has_location: bool
    truncated: bool = False


@dataclass(frozen=True)
class Sound:
    """A piece of sound: ``samples`` float32 [n] mono 16 kHz in -1..1, from ``start_s`` on.

    ``cpu_s``: processor seconds for this piece. ``truncated``: the file is damaged, and by here decoding had to
    leave parts out, or its end is missing; look at the last piece.
    """

    start_s: float
    samples: NDArray[np.float32]
    cpu_s: float
    truncated: bool = False


@dataclass(frozen=True)
class Frame:
    """One picture of a film: ``pixels`` uint8 [h, w, 3] sRGB, upright, longest side at most 640.

    ``at_s``: its own time, not the one asked for. ``same``: looks like the last frame without this mark, whose
    vector will do. ``cpu_s``, ``truncated``: as in ``Sound``.
    """

    at_s: float
    pixels: NDArray[np.uint8]
    same: bool
    cpu_s: float
    truncated: bool = False


# --- Files as descriptors --------------------------------------------------------------------------------
# A file that somebody else opened for this process: read through its descriptor, never by name.
#
# The decoding child may open no file of its own. What it gets has the two methods of a path that its readers use, so
# that the same code reads a named file elsewhere.


class DescriptorFile:
    """An open regular file. Each ``open`` begins at its start and has a position of its own."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def open(self, mode: str = "rb") -> io.BufferedReader:
        if mode != "rb":
            raise ValueError(f"only for reading in binary, not {mode!r}")
        return io.BufferedReader(_Reader(self._descriptor), 1 << 16)

    def stat(self) -> os.stat_result:
        return os.fstat(self._descriptor)

    def close(self) -> None:
        """Close the descriptor; readers fail from then on."""
        os.close(self._descriptor)


class _Reader(io.RawIOBase):
    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._at = descriptor, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = os.preadv(self._descriptor, [buffer], self._at)
        self._at += count
        return count

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        # By lseek: fstat is one call with stat of a name in some C libraries, which decoders may not ask.
        base = os.lseek(self._descriptor, 0, os.SEEK_END) if whence == os.SEEK_END else (0, self._at)[whence]
        if base + offset < 0:
            raise OSError("a position before the start")
        self._at = base + offset
        return self._at


#: What is decoded: a file by its name, or one that was handed over open.
File = Path | DescriptorFile
