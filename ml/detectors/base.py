"""What every detector promises, and how one is found by name.

A new detector is one new file in this folder with a function ``load(argument: str) -> Detector``; ``argument`` is what
follows the colon of its spec, often empty. It runs in a limited child process (``ml.auditing.child``): what a hostile
file breaks there dies with the process and counts as ``failed``, which means "could not look", never "found nothing".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ml.catalog import Catalog
from ml.media.model import File

Modality = Literal["text", "image", "audio", "video"]

#: How far a finding can be trusted. Tiers are never averaged with each other: a signature is a fact, a declaration
#: is somebody's word, a match is a distance to something known, a rule is a pattern, a statistic is an estimate.
Tier = Literal["cryptographic", "declared", "match", "rules", "statistical"]

#: ``examined``: it looked, and the rest of the finding says what it saw. ``abstained``: it could look, but its answer
#: would mean nothing (too small, transcoded, out of its domain). ``not_applicable``: nothing of what it looks at is in
#: the item. ``not_installed``: its weights or package are missing. ``failed``: it crashed, or took too long.
State = Literal["examined", "abstained", "not_applicable", "not_installed", "failed"]

#: What an estimate is of: that a model made the item (or a voice, or a face in it), or that parts of it were changed
#: afterwards. One says nothing of the other. Empty for detectors that estimate neither.
Estimates = Literal["generation", "manipulation", ""]

CATALOG = Catalog("ml.detectors")

#: The cause of a failure that lies with the process and not with the item.
PROCESS_DIED = "decoder-died"

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class VideoFrame:
    """One frame of a film: ``pixels`` uint8 [h, w, 3] sRGB, ``at_s`` seconds from the start."""

    at_s: float
    pixels: Pixels


@dataclass(frozen=True)
class Words:
    """A piece of text in the item and where it stands.

    ``origin``: ``text`` (the item itself), ``caption``, ``transcript`` or ``picture`` (read by OCR). ``at_s``: of a
    transcript's or a film's words, seconds from the start.
    """

    text: str
    origin: Literal["text", "caption", "transcript", "picture"]
    at_s: float | None = None


@dataclass
class Item:
    """What is examined: the file as it came (``path``, open already and without a name), and what decoding made of it.

    ``pixels``: uint8 [h, w, 3] sRGB, orientation applied, longest side at most 1024 (``width`` and ``height`` are the
    original's); None for other modalities. ``shots``: the sampled frames of a film. ``sound``: float32 [n] mono at
    16 kHz, of a recording or a film's sound track, at most ten minutes; empty where there is none. ``words``: every
    text so far; detectors of tier ``rules`` and text models read all of it, OCR and transcription add to it before
    they run. ``options``: the tenant's settings for detectors, such as ``trust_anchors``.
    """

    modality: Modality
    media_type: str
    path: File | None = None
    pixels: Pixels | None = None
    width: int = 0
    height: int = 0
    shots: Sequence[VideoFrame] = ()
    sound: Samples = field(default_factory=lambda: np.zeros(0, np.float32))
    duration_s: float = 0.0
    words: list[Words] = field(default_factory=list)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def lossy(self) -> bool:
        """Whether the file itself is of a lossy format. A lossless one may still hold what was lossy before."""
        return self.media_type not in ("image/png", "image/gif", "audio/wav", "audio/flac", "text/plain")

    @cached_property
    def head(self) -> bytes:
        """The first 64 KiB of the file."""
        if self.path is None:
            return b""
        with self.path.open("rb") as file:
            return file.read(1 << 16)


@dataclass(frozen=True)
class Category:
    """What a detector says about one category, such as ``abuse``.

    ``score``: 0 to 1, calibrated where ``calibrated`` says so: of a hundred items with .8 about eighty are of the
    category. ``interval``: 95 % of that score, where it is known. ``evidence`` names what it saw: spans of text
    (``start``, ``end``, ``origin``), times, boxes. ``threshold``: the score that its calibration says to flag from.
    """

    score: float
    calibrated: bool = False
    interval: tuple[float, float] | None = None
    evidence: Sequence[Mapping[str, Any]] = ()
    threshold: float | None = None


@dataclass(frozen=True)
class Finding:
    """The answer of one detector about one item.

    ``evidence``: JSON objects, each with a ``kind`` in the detector's words. ``synthetic``: the calibrated probability
    of what the detector ``estimates``; ``interval`` its 95 %.
    ``above``: whether it lies over the threshold at the stated false-positive rate (``likely``), below (``none``) or in
    the band between (``band``). ``categories`` by name. ``fields``: what the provenance part of an audit shows
    (``c2pa``, ``declared``, ``watermark``, ``fingerprints``). ``pictures``: PNG files that people look at (heat-map,
    mask), by name, each at most 512 pixels. ``words``: texts found in the item, for the detectors after it.
    ``reason``: why it did not look, in words for a person; ``cause`` of one that ``failed`` because its process ended:
    ``PROCESS_DIED``, which says nothing about the item.
    """

    state: State = "examined"
    reason: str = ""
    evidence: Sequence[Mapping[str, Any]] = ()
    synthetic: float | None = None
    interval: tuple[float, float] | None = None
    above: Literal["likely", "band", "none"] | None = None
    categories: Mapping[str, Category] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    words: Sequence[Words] = ()
    cause: str = ""


class Detector(ABC):
    """One way to look at an item. Made once in a child process, used for one item after the other.

    One that examined reports every category that it looked for, also with a score of 0: what it leaves out counts as
    not looked for.
    """

    #: The file's name; with an argument, ``hf-image:org/model``.
    name: str
    #: Changes whenever the same item could get another finding; stored with each audit.
    version: ClassVar[str] = "1"
    tier: ClassVar[Tier]
    modalities: ClassVar[frozenset[Modality]]
    #: One sentence each, shown to people who write policies.
    sees: ClassVar[str]
    blind_to: ClassVar[str]
    #: Wall time after which it counts as failed.
    timeout_s: ClassVar[float] = 20.0
    #: Detectors with a lower number run first: those that find words (OCR, transcription) before those that read.
    order: ClassVar[int] = 50
    #: Categories that it can speak about, so that an audit can tell ``not_examined`` from "nothing found".
    categories: ClassVar[tuple[str, ...]] = ()
    #: What its probability is of.
    estimates: ClassVar[Estimates] = ""
    #: Which signs of an item's making it looks for, in the words that audits list under ``looked_for``.
    looks_for: ClassVar[tuple[str, ...]] = ()

    def missing(self) -> str:
        """Empty if it can run here, else what is not installed and how to install it. Cheap: loads no weights."""
        return ""

    @abstractmethod
    def examine(self, item: Item) -> Finding:
        """Look at the item. May raise anything: that counts as ``failed`` and goes to the log."""


def load_detector(spec: str) -> Detector:
    """A detector by its spec, such as ``c2pa`` or ``hf-image:/models/ai-or-not``. Raises UnknownPlugin."""
    name, _, argument = spec.partition(":")
    detector: Detector = CATALOG.load(name).load(argument)
    return detector
