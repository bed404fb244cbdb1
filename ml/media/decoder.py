"""The parent's side of limited decoding: what a caller can ask of a file of unknown origin."""

from __future__ import annotations

import itertools
import os
import stat
import threading
import time
from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from copy import copy
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ml.media.fair_queue import FairQueue
from ml.media.model import DecodedImage, Frame, MediaError, MediaInfo, Sound
from ml.media.process import Child, ChildDied, ChildTimeout, Piece

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# --- Pool of children ------------------------------------------------------------------------------------
# A small pool of decoding children: one request, an answer of several pieces, whatever the file does.
#
# A child costs about 0.4 s of processor time to start, so it is kept and used again; it is replaced after
# ``JOBS_PER_CHILD`` files, after any failure that is not a plain refusal, and killed when it takes too long or its
# answer is not wanted to the end. Where it dies, a new one is asked once more: it may have been ended from outside.


JOBS_PER_CHILD = 500
#: How often a file is given to a child that then dies.
TRIES = 2

PathLike = str | os.PathLike[str]


class Pool:
    """Children with ``memory_bytes`` of address space each, which run ``module``; ``turns`` says whose turn it is.

    Thread-safe; survives fork and a child's death. An answer that waits for its reader keeps a child, but not
    a place among those at work: readers that hold several answers cannot lock each other out.
    """

    def __init__(
        self, memory_bytes: int, turns: Callable[[], FairQueue], module: str = "ml.media.child"
    ) -> None:
        self.idle: list[Child] = []
        self._memory_bytes, self._new_turns, self._module = memory_bytes, turns, module
        self._turns = turns()
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def ask_once(
        self, path: PathLike, request: dict[str, Any], timeout_s: float, owner: Hashable
    ) -> list[Piece]:
        """All pieces of a short answer, which keeps its place among those at work to the end.

        Raises MediaError, and Crowded where too many wait for their turn.
        """
        self._forget_after_fork()
        with self._turns.of(owner):
            return list(self._tried(path, request, timeout_s, nullcontext))

    def ask(
        self, path: PathLike, request: dict[str, Any], timeout_s: float, owner: Hashable
    ) -> Generator[Piece, None, None]:
        """The pieces of the answer as they come, each within ``timeout_s``. Raises MediaError and Crowded.

        Headers tell ``waited_s``, the time that this process waited for the piece.
        """
        self._forget_after_fork()
        return self._tried(path, request, timeout_s, lambda: self._turns.of(owner))

    def _tried(
        self,
        path: PathLike,
        request: dict[str, Any],
        timeout_s: float,
        place: Callable[[], AbstractContextManager[Any]],
    ) -> Generator[Piece, None, None]:
        """The pieces; where a child dies, what was not handed out yet comes from a new one, which begins again."""
        handed_out, cpu_s = 0, 0.0
        for attempt in range(1, TRIES + 1):
            pieces = self._pieces(path, request, timeout_s, place)
            try:
                for piece in itertools.islice(pieces, handed_out, None):
                    handed_out += 1
                    yield piece
            except MediaError as error:
                cpu_s += error.cpu_s
                if error.code != "decoder-died" or attempt == TRIES:
                    error.cpu_s = cpu_s
                    raise
            else:
                return
            finally:
                pieces.close()

    def _pieces(
        self,
        path: PathLike,
        request: dict[str, Any],
        timeout_s: float,
        place: Callable[[], AbstractContextManager[Any]],
    ) -> Generator[Piece, None, None]:
        child: Child | None = None
        before, refused = 0.0, None
        try:
            while True:
                with place():
                    # Waiting for a place is not the file's fault: the time starts here.
                    start = time.monotonic()
                    if child is None:
                        child = self._take()
                        before = child.cpu_s()
                        child.send({**request, "timeout_s": timeout_s}, path)
                    header, parts = child.receive(start + timeout_s)
                    header["waited_s"] = time.monotonic() - start
                if header.get("end"):
                    break
                before = child.cpu_s()
                yield header, parts
            if "code" in header:
                refused = _charged(MediaError(header["code"], header["message"]), child, before)
            if child.jobs < JOBS_PER_CHILD and not header.get("exhausted"):
                self._give_back(child)
                child = None
        except ChildTimeout:
            raise _charged(decoding_timeout(timeout_s), child, before) from None
        except ChildDied:
            raise _charged(decoder_died(), child, before) from None
        finally:
            if child is not None:
                child.stop()
        if refused:
            raise refused

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            idle, self.idle = self.idle, []
        for child in idle:
            child.stop()

    def _take(self) -> Child:
        with self._lock:
            while self.idle:
                child = self.idle.pop()
                if child.alive():
                    return child
                child.stop()
        return Child(self._memory_bytes, self._module)

    def _give_back(self, child: Child) -> None:
        with self._lock:
            self.idle.append(child)

    def _forget_after_fork(self) -> None:
        """A forked process shares its parent's pipes: it must start children of its own."""
        if os.getpid() != self._owner:
            self._lock, self.idle = threading.Lock(), []
            self._turns = self._new_turns()
            self._owner = os.getpid()


def _charged(error: MediaError, child: Child | None, before: float) -> MediaError:
    """With what the child has used since it had used ``before``."""
    error.cpu_s = max(0.0, child.cpu_s() - before) if child else 0.0
    return error


def decoding_timeout(limit_s: float) -> MediaError:
    """The file took longer than ``limit_s``."""
    return MediaError(
        "timeout", f"decoding took longer than {limit_s:g} s: try again, or send the file smaller"
    )


def decoder_died() -> MediaError:
    """The decoder process ended, or its answer made no sense: nothing is known about the file."""
    return MediaError(
        "decoder-died", "the file could not be examined, because the decoder's process ended: try again"
    )


# --- What callers ask ------------------------------------------------------------------------------------


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

    def moments(self, path: str | os.PathLike[str], max_moments: int = 1_500) -> Iterator[Frame]:
        """A picture for each moment of a film in order of time: ``at_s`` is where it begins, to within a quarter of a
        second, and it lasts until the next one that is not ``same``.

        A moment begins with a cut, or with a change that lasts; at least one is told for every three seconds. One that
        moves has a picture for each second, of which the others have the ``at_s`` of the first. At most
        ``max_moments`` of them are not ``same``: in films with more, those that begin with a cut come first, and what
        is left out belongs to the moment before. Where decoding takes more than a third of the time that the film
        plays, only key frames are looked at. Damage as in ``sound``.
        """
        request = {"kind": "moments", "max_moments": max_moments, "max_seconds": self.max_seconds}
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
            raise decoder_died()
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
                    raise decoding_timeout(limit)
                yield header, parts

    def _ask(self, path: str | os.PathLike[str], request: dict[str, Any]) -> Generator[Piece, None, None]:
        _check_file(path)
        return self.pool.ask(path, request, self.timeout_s, self.owner)


def _trusted(build: Callable[..., Any], *answer: Any) -> Any:
    """A compromised child may answer anything: what does not fit is the child's end, not the caller's."""
    try:
        return build(*answer)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        raise decoder_died() from None


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
        raise decoder_died()
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
