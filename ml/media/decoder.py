"""The parent's side of limited decoding: what a caller can ask of a file of unknown origin."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import closing
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ml.media.fair_queue import FairQueue
from ml.media.model import DecodedImage, Frame, MediaError, MediaInfo, Sound
from ml.media.pool import Pool, died, timed_out
from ml.media.process import Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Enough for 64 megapixels in every format but WebP, whose decoder keeps copies: about 40, and beyond that
#: ``too-large``.
DEFAULT_MEMORY = 3 << 29
DEFAULT_MAX_PIXELS = 64_000_000
DEFAULT_MAX_SECONDS = 6 * 3600.0

#: Below this float peak is silence; one step of 16-bit noise is 3e-5.
SILENT_PEAK = 1e-4

SAMPLE_RATE = 16_000

#: Decoding may take the limit of one piece, and beyond that so much of the time that the media plays.
SHARE_OF_REAL_TIME = 1.0

#: A copy of this many bytes counts as a second of media for the limit.
BYTES_A_SECOND = 1 << 20

# numpy is imported where pixels arrive: the child imports this package too and starts faster without it.


class Decoder:
    """Decodes files of unknown origin in child processes. Thread-safe; survives fork and a child's death.

    ``memory_bytes`` limits a child's address space, ``timeout_s`` the time of a picture, a query, or one piece
    of sound or film; ``turns`` makes what says how many are at work at once and whose turn it is, ``max_pixels`` the
    size of a picture, ``max_seconds`` the length of sound and film. All methods raise MediaError, OSError for a file
    that is not there, and Crowded where ``turns`` lets no more wait.
    """

    #: For whom it decodes: those who wait are served in turn.
    owner: Hashable = None

    def __init__(
        self,
        memory_bytes: int = DEFAULT_MEMORY,
        timeout_s: float = 20.0,
        *,
        turns: Callable[[], FairQueue] = lambda: FairQueue(2),
        max_pixels: int = DEFAULT_MAX_PIXELS,
        max_seconds: float = DEFAULT_MAX_SECONDS,
    ) -> None:
        self.memory_bytes, self.timeout_s = memory_bytes, timeout_s
        self.max_pixels, self.max_seconds = max_pixels, max_seconds
        self.pool = Pool(memory_bytes, turns)

    def of(self, owner: Hashable) -> Decoder:
        """The same decoder and children, for an owner (a tenant)."""
        other = copy(self)
        other.owner = owner
        return other

    def image(self, path: str | os.PathLike[str], *, thumbnail: bool = True) -> DecodedImage:
        """Decode a JPEG, PNG, WebP, GIF, AVIF or HEIC picture.

        Without ``thumbnail`` some milliseconds are saved and ``DecodedImage.thumbnail`` is empty.
        """
        request = {"kind": "image", "max_pixels": self.max_pixels, "thumbnail": thumbnail}
        return _trusted(_image, *self._one(path, request))

    def audio(self, path: str | os.PathLike[str], max_seconds: float = 60) -> NDArray[np.float32]:
        """Decode a query's sound to float32 [n] mono 16 kHz in -1..1, cut after ``max_seconds``.

        Any container that ``sound`` takes. Shorter than 0.1 s or silent: code ``empty``; no sound stream:
        ``unsupported``.
        """
        import numpy as np

        _, parts = self._one(path, {"kind": "audio", "seconds": max_seconds})
        samples = _trusted(_samples, parts)
        if float(np.abs(samples).max()) < SILENT_PEAK:
            raise MediaError("empty", "the sound is silent: check the microphone and record it again")
        return samples

    def probe(self, path: str | os.PathLike[str]) -> MediaInfo:
        """What a sound or film is; one picture and one packet of sound are decoded to be sure."""
        header, _ = self._one(path, {"kind": "probe", "max_seconds": self.max_seconds})
        return _trusted(_info, header)

    def sound(self, path: str | os.PathLike[str], piece_s: float = 60.0) -> Iterator[Sound]:
        """Consecutive pieces of the whole sound, at most ``piece_s`` seconds each; memory stays flat.

        Silence is no error. A pause in the recording's timestamps ends a piece early. A damaged file gives what
        can be decoded, and says ``truncated`` on its last piece; code ``corrupt`` where that is nothing.
        """
        request = {"kind": "sound", "piece_s": piece_s, "max_seconds": self.max_seconds}
        for header, parts in self._several(path, request, lambda header: header["start_s"]):
            yield _trusted(_sound, header, parts)

    def frames(self, path: str | os.PathLike[str], max_frames: int = 300) -> Iterator[Frame]:
        """One picture a second in order of time, fewer where the film is longer than ``max_frames`` seconds.

        Found by seeking; the first after a cut is preferred. An interval in which the film has no picture of its
        own gives none, nor one without a key frame where decoding is too dear. Damage as in ``sound``.
        """
        request = {"kind": "frames", "max_frames": max_frames, "max_seconds": self.max_seconds}
        for header, parts in self._several(path, request, lambda header: header["at_s"]):
            yield _trusted(_frame, header, parts)

    def clean(self, path: str | os.PathLike[str], target: Path, max_bytes: int) -> str:
        """Write the sound and pictures of ``path`` to ``target`` without anything else; the media type.

        Streams are copied, not encoded again: no metadata, chapters, cover art, captions or measurements. No file
        is left behind on an error; ``too-large`` where the copy would need more than ``max_bytes``.
        """
        media_type = ""
        pieces = self._several(
            path, {"kind": "clean"}, lambda header: header.get("offset", 0) / BYTES_A_SECOND
        )
        try:
            with closing(pieces), target.open("wb") as file:
                for header, parts in pieces:
                    media_type = header.get("media_type", "")
                    for content in parts:
                        _write(file, header["offset"], content, max_bytes)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        return media_type

    def close(self) -> None:
        """End the idle children. A closed decoder starts new ones when it is used again."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _one(self, path: str | os.PathLike[str], request: dict[str, Any]) -> Piece:
        _check_file(path)
        answer = self.pool.ask_once(path, request, self.timeout_s, self.owner)
        if len(answer) != 1:
            raise died()
        return answer[0]

    def _several(
        self,
        path: str | os.PathLike[str],
        request: dict[str, Any],
        seconds: Callable[[dict[str, Any]], float],
    ) -> Generator[Piece, None, None]:
        """Pieces under a limit for all together, which grows with the ``seconds`` of media that are done."""
        spent = 0.0
        with closing(self._ask(path, request)) as pieces:
            for header, parts in pieces:
                spent += header["waited_s"]
                done = min(self.max_seconds, _trusted(seconds, header))
                limit = self.timeout_s + SHARE_OF_REAL_TIME * done
                if spent > limit:
                    raise timed_out(limit)
                yield header, parts

    def _ask(self, path: str | os.PathLike[str], request: dict[str, Any]) -> Generator[Piece, None, None]:
        _check_file(path)
        return self.pool.ask(path, request, self.timeout_s, self.owner)


def _trusted(build: Callable[..., Any], *answer: Any) -> Any:
    """A compromised child may answer anything: what does not fit is the child's end, not the caller's."""
    try:
        return build(*answer)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        raise died() from None


def _image(header: dict[str, Any], parts: list[bytearray]) -> DecodedImage:
    return DecodedImage(
        pixels=_pixels(header, parts),
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


def _info(header: dict[str, Any]) -> MediaInfo:
    values = {field.name: header[field.name] for field in fields(MediaInfo)}
    return MediaInfo(**values | {"codecs": tuple(map(str, header["codecs"]))})


def _sound(header: dict[str, Any], parts: list[bytearray]) -> Sound:
    return Sound(
        float(header["start_s"]), _samples(parts), header["cpu_s"], bool(header.get("truncated", False))
    )


def _frame(header: dict[str, Any], parts: list[bytearray]) -> Frame:
    return Frame(
        at_s=float(header["at_s"]),
        pixels=_pixels(header, parts),
        same=bool(header["same"]),
        cpu_s=header["cpu_s"],
        truncated=bool(header["truncated"]),
    )


def _pixels(header: dict[str, Any], parts: list[bytearray]) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer(parts[0], np.uint8).reshape(*header["shape"], 3)


def _samples(parts: list[bytearray]) -> NDArray[np.float32]:
    import numpy as np

    samples = np.frombuffer(parts[0], np.int16).astype(np.float32)
    samples /= 32768
    return samples


def _write(file: Any, offset: Any, content: bytearray, max_bytes: int) -> None:
    if not isinstance(offset, int) or offset < 0:
        raise died()
    if offset + len(content) > max_bytes:
        raise MediaError("too-large", f"the copy needs more than {max_bytes:,} bytes: send the file smaller")
    file.seek(offset)
    file.write(content)


def _check_file(path: str | os.PathLike[str]) -> None:
    """Missing files raise OSError (the caller's mistake); devices, pipes and empty files are refused."""
    status = Path(path).stat()
    if not stat.S_ISREG(status.st_mode):
        raise MediaError("unsupported", "not a regular file")
    if status.st_size == 0:
        raise MediaError("empty", "the file is empty: it was not uploaded completely")
