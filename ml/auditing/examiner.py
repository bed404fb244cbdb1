"""The parent's side of examining: which detectors look, what each found, and which of them could not look."""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml import sandbox
from ml.compression.store import model_folders, model_places
from ml.detectors.base import PROCESS_DIED, Category, Detector, Finding, Item, Words, load_detector
from ml.media.decoder import DEFAULT_MAX_PIXELS, DEFAULT_MAX_SECONDS
from ml.media.process import Child, ChildDied, ChildExhausted, ChildTimeout
from ml.speech import SETTING

log = logging.getLogger(__name__)

DEFAULT_MEMORY = 6 << 30
MAX_FRAMES, MAX_SOUND_S = 32, 600.0
DECODE_TIMEOUT_S = 60.0
JOBS_PER_CHILD = 500
#: How often a detector's process may end before it counts as failed.
TRIES = 2
#: Where detectors may run, told to their process: ``cuda`` opens the devices of cards to them.
DEVICE = "CROSSLIGHT_EXAMINER_DEVICE"
#: Which card, and how ONNX Runtime is to use it. TensorRT's engines are written to a folder, which examiners may not.
CARDS = (
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_VISIBLE_DEVICES",
    "CROSSLIGHT_ONNX_PROVIDERS",
    "CROSSLIGHT_ONNX_DEVICE",
    "CROSSLIGHT_ONNX_MEMORY_BYTES",
)
#: A file or folder in a detector's spec.
_PATH = re.compile(r"[:=](~?/[^#?&]+)")


@dataclass(frozen=True)
class Subject:
    """What is to be examined: a local file, or a text in `words` with an empty path."""

    modality: str
    media_type: str
    path: Path | None = None
    words: Sequence[Words] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DetectorResult:
    """One detector's part: what it is, what it found, the processor seconds it took."""

    spec: str
    detector: Detector
    finding: Finding
    cpu_s: float


@dataclass(frozen=True)
class Examination:
    """``about``: what decoding told (width, height, duration_s, …; ``error`` with type and detail where the file cannot
    be decoded: of type ``decoder-died`` where the process ended, which says nothing about the file). ``parts``: one for
    each detector that was asked, in the order of their work.
    """

    about: Mapping[str, Any]
    parts: Sequence[DetectorResult]
    cpu_s: float

    @property
    def words(self) -> list[Words]:
        """What was found in the item by OCR and transcription."""
        return [words for part in self.parts for words in part.finding.words]


class Examiner:
    """Runs detectors in child processes with ``memory_bytes`` of address space, ``children`` at a time. Thread-safe.

    ``device``: ``cuda`` lets them use a graphics card, and limits their resident memory instead. With ``cpu`` they see
    none, as CUDA cannot start within a limit of address space.

    ``module`` is the child's, and ``load`` finds a detector by its spec here as it does there.

    A detector that takes longer than its ``timeout_s``, or whose process ends ``TRIES`` times, is ``failed``; those
    after it go on in a new process.
    """

    def __init__(
        self,
        memory_bytes: int = DEFAULT_MEMORY,
        *,
        children: int = 1,
        device: str = "cpu",
        module: str = "ml.auditing.child",
        load: Callable[[str], Detector] = load_detector,
    ) -> None:
        self._memory_bytes, self._module, self._load = memory_bytes, module, load
        self._device = device
        self._slots = threading.BoundedSemaphore(children)
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._detectors: dict[str, Detector] = {}
        self._owner = os.getpid()

    def examine(self, subject: Subject, specs: Sequence[str]) -> Examination:
        """Let each detector of ``specs`` look that is for this kind of item.

        Whatever the file and the detectors do, this returns: what went wrong stands in the findings.
        """
        chosen = self.choose(subject.modality, specs)
        work = _Work(subject, [(spec, d) for spec, d in chosen if not d.missing()])
        for spec, detector in chosen:
            if missing := detector.missing():
                work.parts.append(DetectorResult(spec, detector, Finding("not_installed", missing), 0.0))
        with self._slots:
            while not work.done:
                self._round(work)
        return Examination(
            work.about, sorted(work.parts, key=lambda part: _rank(part.spec, part.detector)), work.cpu_s
        )

    def choose(self, modality: str, specs: Sequence[str]) -> list[tuple[str, Detector]]:
        """The detectors of ``specs`` for a modality, in the order of their work. Loads no weights."""
        for spec in specs:
            if spec not in self._detectors:
                self._detectors[spec] = load_or_placeholder(spec, self._load)
        known = ((spec, self._detectors[spec]) for spec in dict.fromkeys(specs))
        # A film without pictures is a recording, which only decoding tells: both kinds are asked.
        kinds = {"audio", "video"} if modality in ("audio", "video") else {modality}
        return sorted(((s, d) for s, d in known if kinds & d.modalities), key=lambda pair: _rank(*pair))

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            idle, self._idle = self._idle, []
        for child in idle:
            child.stop()

    # --- One process's share of the work ---

    def _round(self, work: _Work) -> None:
        child, before = self._take(work.specs), 0.0
        try:
            before = child.cpu_s()
            child.send(work.request(), work.path)
            while True:
                limit = work.limit_s
                header, parts = child.receive(time.monotonic() + limit)
                if header.get("end"):
                    break
                work.take(header, parts)
            if "code" in header:
                raise ChildDied(header["message"])
            if child.jobs < JOBS_PER_CHILD and not header.get("exhausted"):
                self._give_back(child)
                child = None  # type: ignore[assignment]
            work.done = True
        except ChildTimeout:
            work.fail(f"It took longer than {limit:g} s.")
        except ChildExhausted:
            work.fail("It needs more memory than an examination may take.")
        except (ChildDied, ValueError, KeyError, TypeError) as error:
            log.warning(
                "an examining process ended early", extra={"stage": work.stage, "error": str(error)[:200]}
            )
            work.died()
        except OSError as error:
            work.unreadable(error)
        finally:
            if child is not None:
                work.cpu_s += max(0.0, child.cpu_s() - before)
                child.stop()

    def _take(self, specs: Sequence[str]) -> _Process:
        folders = model_folders_of(specs)
        if os.getpid() != self._owner:
            self._lock, self._idle, self._owner = threading.Lock(), [], os.getpid()
        with self._lock:
            for child in [one for one in self._idle if not one.alive()]:
                self._idle.remove(child)
                child.stop()
            for child in self._idle:
                if child.serves(folders, specs):
                    self._idle.remove(child)
                    return child
        return _Process(self._memory_bytes, self._module, folders, specs, self._device)

    def _give_back(self, child: _Process) -> None:
        with self._lock:
            self._idle.append(child)


class _Process(Child):
    """An examining process that may read these folders, and has loaded these detectors if it can load no more."""

    def __init__(
        self, memory_bytes: int, module: str, folders: Sequence[Path], specs: Sequence[str], device: str
    ) -> None:
        arguments = [*map(str, folders), "--", *specs]
        # Importing parts of torch asks for a folder of its own. It is only named: nothing is compiled.
        places = model_places() | {"TORCHINDUCTOR_CACHE_DIR": "/tmp"} | sandbox.kept(SETTING)  # noqa: S108
        resident = device == "cuda"
        seen = (
            sandbox.kept(*CARDS)
            if resident
            else {"CUDA_VISIBLE_DEVICES": "", "CROSSLIGHT_ONNX_PROVIDERS": "cpu"}
        )
        super().__init__(memory_bytes, module, places | seen | {DEVICE: device}, arguments, resident=resident)
        self._folders, self._specs = set(folders), set(specs)

    def serves(self, folders: Sequence[Path], specs: Sequence[str]) -> bool:
        loads = sandbox.landlock_version() > 0
        return self._folders.issuperset(folders) and (loads or self._specs.issuperset(specs))


def model_folders_of(specs: Sequence[str]) -> list[Path]:
    """Where the models of these detectors lie: this installation's, the hub's cache, and what the specs name."""
    named = [Path(found).expanduser() for spec in specs for found in _PATH.findall(spec)]
    beside = [path.parent if path.is_file() else path for path in named]
    return list(dict.fromkeys([*model_folders(), *beside]))


class UnloadableDetector(Detector):
    """Stands for a detector whose spec is wrong, or whose module does not load: it is asked and says so."""

    tier = "statistical"
    modalities = frozenset({"text", "image", "audio", "video"})
    sees = blind_to = ""

    def __init__(self, name: str, reason: str) -> None:
        self.name, self._reason = name, reason

    def missing(self) -> str:
        return self._reason

    def examine(self, item: Item) -> Finding:
        return Finding("not_installed", self._reason)


def load_or_placeholder(spec: str, load: Callable[[str], Detector] = load_detector) -> Detector:
    """The detector, or one in its place that says why it cannot be loaded. Loads no weights."""
    try:
        return load(spec)
    except Exception as error:
        log.warning("a detector cannot be loaded", extra={"spec": spec}, exc_info=True)
        return UnloadableDetector(spec, f"It cannot be loaded ({type(error).__name__}: {error})."[:300])


class _Work:
    """How far an examination has come, over the processes that it may need."""

    def __init__(self, subject: Subject, todo: Sequence[tuple[str, Detector]]) -> None:
        self.about: dict[str, Any] = {}
        self.parts: list[DetectorResult] = []
        self.cpu_s = 0.0
        self.done = not todo and subject.path is None
        self._subject, self._todo = subject, list(todo)
        self._words = list(subject.words)
        self._decoded = self._undecodable = False
        self._deaths: Counter[str] = Counter()

    @property
    def path(self) -> Path | None:
        return self._subject.path

    @property
    def specs(self) -> list[str]:
        return [spec for spec, _ in self._todo]

    @property
    def stage(self) -> str:
        return self._todo[0][0] if self._decoded and self._todo else "decoding"

    @property
    def limit_s(self) -> float:
        if not self._decoded:
            return DECODE_TIMEOUT_S + 0.5 * float(self._todo[0][1].timeout_s if self._todo else 0)
        return self._todo[0][1].timeout_s if self._todo else 5.0

    def request(self) -> dict[str, Any]:
        subject = self._subject
        self._decoded = False
        return {
            "modality": "none" if self._undecodable else subject.modality,
            "media_type": subject.media_type,
            "words": [{"text": w.text, "origin": w.origin, "at_s": w.at_s} for w in self._words],
            "options": dict(subject.options),
            "detectors": [spec for spec, _ in self._todo],
            "timeouts": [detector.timeout_s for _, detector in self._todo],
            "timeout_s": DECODE_TIMEOUT_S,
            "max_pixels": DEFAULT_MAX_PIXELS,
            "max_frames": MAX_FRAMES,
            "max_seconds": DEFAULT_MAX_SECONDS,
            "max_sound_s": MAX_SOUND_S,
        }

    def take(self, header: dict[str, Any], parts: Sequence[bytes | bytearray]) -> None:
        content = json.loads(bytes(parts[0]))
        self.cpu_s += float(header["cpu_s"])
        if header["stage"] == "decoded":
            self._decoded = True
            if not self._undecodable:
                self.about = content
            return
        spec, detector = self._todo.pop(0)
        if header["stage"] != spec:
            raise ChildDied("an answer that nobody asked for")
        finding = _finding(content)
        self._words.extend(finding.words)
        self.parts.append(DetectorResult(spec, detector, finding, float(header["cpu_s"])))

    def died(self) -> None:
        """The process ended: what it was at is tried once more in another one, as something else may have ended it."""
        self._deaths[self.stage] += 1
        if self._deaths[self.stage] >= TRIES:
            self.fail("Its process ended before it had looked, more than once.", PROCESS_DIED)

    def unreadable(self, error: OSError) -> None:
        """The file cannot be opened."""
        self.about = {"error": {"type": "missing", "detail": f"it cannot be opened ({error.strerror})"}}
        self._decoded = True
        self._fail_rest("The file cannot be opened.", "")
        self.done = True

    def fail(self, reason: str, cause: str = "timeout") -> None:
        """The process is gone: what it was at is over, the rest goes on in another one."""
        if self._decoded and self._todo:
            spec, detector = self._todo.pop(0)
            self.parts.append(DetectorResult(spec, detector, Finding("failed", reason, cause=cause), 0.0))
        elif self._decoded or self._undecodable:
            self._fail_rest(reason, cause)
        else:
            # Those that read the bytes themselves can still look.
            self.about = {"error": {"type": cause, "detail": reason}}
            self._undecodable = True
        self.done = not self._todo

    def _fail_rest(self, reason: str, cause: str) -> None:
        finding = Finding("failed", reason, cause=cause)
        self.parts += [DetectorResult(spec, detector, finding, 0.0) for spec, detector in self._todo]
        self._todo = []


def _rank(spec: str, detector: Detector) -> tuple[int, str]:
    return detector.order, spec


def _finding(content: dict[str, Any]) -> Finding:
    """What a child says is checked only so far that nothing here breaks: it is shown as its word."""
    categories = {
        str(name): Category(
            min(1.0, max(0.0, float(found["score"]))),
            bool(found["calibrated"]),
            tuple(found["interval"]) if found["interval"] else None,
            found["evidence"],
            None if found["threshold"] is None else min(1.0, max(0.0, float(found["threshold"]))),
        )
        for name, found in content["categories"].items()
    }
    return Finding(
        state=content["state"],
        reason=str(content["reason"]),
        evidence=content["evidence"],
        synthetic=content["synthetic"],
        interval=tuple(content["interval"]) if content["interval"] else None,
        above=content["above"],
        categories=categories,
        fields=content["fields"],
        pictures={name: base64.b64decode(png) for name, png in content["pictures"].items()},
        words=[Words(w["text"], w["origin"], w["at_s"]) for w in content["words"]],
    )
