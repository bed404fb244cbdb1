"""What every generator promises, and the only way to one: through the wrapper that marks at birth.

A new generator is one new file in this folder with a function ``load(argument: str) -> Generator``; ``argument`` is
what follows the colon of its spec, often empty. What ``draw`` returns is unmarked and never leaves this package:
everybody else calls ``load_generator``, which has no option to leave out the marks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ml.composing.moods import Mood
    from ml.provenance.disclosure import Icon, Notice
    from ml.provenance.signing import Keys, TimeStamp

Kind = Literal["image", "audio", "video"]
#: ``model``: a trained model made it. ``rules``: rules alone. ``layout``: rules arranged what models made, or took.
How = Literal["model", "rules", "layout"]
#: ``unreadable``: a request or a model's files that make no sense. ``not-marked``: the marks could not be read back.
Code = Literal[
    "not-installed", "out-of-memory", "too-large", "no-such-model", "unreadable", "failed", "not-marked"
]

Pixels = NDArray[np.uint8]

#: Marks need their room: smaller pictures are never made.
MIN_SIDE = 256
MAX_PROMPT = 2000


@dataclass(frozen=True)
class Sound:
    """``samples``: float32 [n, 2] in -1..1 at ``rate`` samples a second."""

    samples: NDArray[np.float32]
    rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.rate


@dataclass(frozen=True)
class GenerationParams:
    """What one output shall be. ``mood``, ``picture`` and ``sound`` come from the other outputs of the same request.

    ``guidance``: how strictly the prompt is followed; 1 is not at all beyond the model's habit. ``picture``: uint8
    [h, w, 3], where a clip starts. ``sound``: what a clip is muxed with. ``arrange``: several things may be drawn one
    by one and put side by side, by generators that cannot compose them.
    """

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 25
    guidance: float = 3.0
    width: int = 512
    height: int = 512
    seconds: float = 10.0
    mood: Mood | None = None
    picture: Pixels | None = None
    sound: Sound | None = None
    arrange: bool = False


@dataclass(frozen=True)
class Step:
    """``done`` of ``total`` steps. ``preview``: uint8 [h, w, 3], a rough picture of what is coming; not every step."""

    done: int
    total: int
    preview: Pixels | None = None


Watch = Callable[[Step], None]


class Cancelled(Exception):
    """Raised by a watch to stop; what was begun is dropped."""


class GenerationError(Exception):
    """Nothing was made. ``code`` is for programs, ``message`` tells a person what to do about it."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code: Code = code
        self.message = message


@dataclass(frozen=True)
class Part:
    """One named thing of a picture that was put together.

    ``how``: ``drawn`` by the model ``model``, or ``taken`` from a set of designs, which ``source``, ``name``,
    ``author`` and ``licence`` say; ``changed``: it was given another colour.
    """

    thing: str
    how: Literal["drawn", "taken"]
    model: str = ""
    name: str = ""
    author: str = ""
    licence: str = ""
    source: str = ""
    changed: bool = False

    @property
    def said(self) -> dict[str, Any]:
        """As manifests and results have it: what is empty is left out."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class RawOutput:
    """What a generator returns, before marking: never leaves ``ml.generators``. One of the three is there.

    ``pixels``: uint8 [h, w, 3]. ``frames``: uint8 [n, h, w, 3], shown ``fps`` a second, with ``sound`` if there is one;
    ``count``: how many are shown in all, over and over where that is more than there are (0: each once). ``sound``
    alone: a recording. ``how``: where it differs from the generator's. ``parts``: of a layout, each thing in it.
    """

    pixels: Pixels | None = None
    frames: Pixels | None = None
    fps: int = 0
    count: int = 0
    sound: Sound | None = None
    how: How | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Limits:
    """Beyond these a request is ``too-large``. ``max_batch``: outputs drawn at once; more are drawn in turns."""

    max_side: int = 1024
    max_steps: int = 100
    max_seconds: float = 30.0
    max_batch: int = 4


class Generator(ABC):
    """One way to make one kind of thing. Made once in a worker, used for one request after the other."""

    #: The file's name; with an argument, ``hf-image:org/model``.
    name: str
    kind: Kind
    #: Name and version; goes into the manifest.
    model: str
    how: How = "model"
    limits: Limits = Limits()

    def missing(self) -> str:
        """Empty if it can run here, else what is not there and what to do. Cheap: loads no weights."""
        return ""

    @abstractmethod
    def draw(self, batch: Sequence[GenerationParams], watch: Watch) -> list[RawOutput]:
        """One result for each of `batch` (at most ``max_batch``), the same for the same parameters. Calls ``watch`` at
        each step.

        Raises GenerationError; lets through what ``watch`` raises.
        """


@dataclass(frozen=True)
class Marker:
    """Whose marks are put into everything.

    ``watermark_key``: 16 bytes or more. ``keys``: sign the manifest; the tenant's certificate. ``payload``: 32 bits for
    pictures, of which sounds carry the lower 16. ``tenant``: its name or id, for messages. ``icon``: drawn into
    pictures and frames; ``notice``: spoken before sound; None: neither is. ``time_stamp``: asked for one over the
    signature of each file that is kept, which the certificates ``time_stamp_roots`` (PEM) are trusted for; None: signed
    without.
    """

    watermark_key: bytes = field(repr=False)
    keys: Keys = field(repr=False)
    payload: int
    tenant: str
    icon: Icon | None = None
    notice: Notice | None = field(default=None, repr=False)
    time_stamp: TimeStamp | None = field(default=None, repr=False)
    time_stamp_roots: str = field(default="", repr=False)


@dataclass(frozen=True)
class MarkedOutput:
    """What was released: a file that carries both marks, read back from its bytes.

    ``pixels``: the picture, or a clip's middle frame, as decoded from ``content``; None for sound. ``sound``: likewise
    the samples. ``marks``: what was read back: ``c2pa`` (state, own, source_type, signer), ``watermark`` of pictures
    and clips, ``sound_watermark`` of sounds; and what people see and hear: ``icon`` (text, corner), ``notice``
    (seconds). ``seconds``: 0 for pictures; ``width``, ``height``: 0 for sounds. ``scene``: a picture without its icon,
    watermarked: what is scored, and what a clip begins with, whose frames have an icon of their own. ``said``: what its
    manifest says, as ``signing.sign`` takes it.
    """

    kind: Kind
    media_type: str
    content: bytes = field(repr=False)
    model: str
    how: How
    marks: Mapping[str, Any]
    width: int = 0
    height: int = 0
    seconds: float = 0.0
    pixels: Pixels | None = field(default=None, repr=False)
    sound: Sound | None = field(default=None, repr=False)
    scene: Pixels | None = field(default=None, repr=False)
    said: Mapping[str, Any] = field(default_factory=dict, repr=False)
