"""What goes into preparing an asset and what comes out of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenants.datasets import documents
from tenants.retrieval import query
from tenants.retrieval.index import NewVector

if TYPE_CHECKING:
    from ml.documents import Document
    from ml.listening import Utterance

#: Called with how many seconds of how many are done; raises to stop.
Report = Callable[[float, float], None]


@dataclass(frozen=True)
class Source:
    """One asset's content. `path` is a local file (None for texts), `folder` a place for what is made from it.

    `document`: what was read of a document before; None where it has yet to be read.
    """

    modality: str
    text: str = ""
    captions: tuple[str, ...] = ()
    path: Path | None = None
    folder: Path | None = None
    media_type: str = ""
    document: Document | None = None

    @property
    def is_document(self) -> bool:
        return documents.is_document(self.media_type)

    @property
    def file(self) -> Path:
        if self.path is None:
            raise RuntimeError("only texts come without a file")
        return self.path


@dataclass
class Prepared:
    """Vectors, renditions and findings of one asset, and the cpu seconds that they took.

    `spaces`, by model: what each part of the asset gets a vector in; `parts` counts these. `clean` is the rendition
    without location, if one had to be made; `details` (as in Blob) and `transcript` are of sound and film.
    """

    spaces: query.Spaces = field(default_factory=lambda: {query.model_id(): query.space()})
    vectors: list[NewVector] = field(default_factory=list)
    parts: int = 0
    # As decoding found it: an MP4 may turn out to hold only sound. Empty where nothing new is known.
    media_type: str = ""
    width: int | None = None
    height: int | None = None
    thumbnail: bytes | None = None
    clean: bytes | Path | None = None
    clean_type: str = ""
    details: dict[str, Any] | None = None
    transcript: list[Utterance] = field(default_factory=list)
    # What was read of a document, and whether it has more passages than get vectors.
    document: Document | None = None
    passages_cut: bool = False
    # Of sound and film: something is missing or damaged, and the rest was used.
    truncated: bool = False
    cpu_s: float = 0.0
    # Picture and sound of a film are prepared side by side.
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def spend(self, cpu_s: float) -> None:
        with self._lock:
            self.cpu_s += cpu_s

    def add(self, modality: str, encoded: query.Costed, segment: dict[str, Any] | None = None) -> None:
        placed, cpu_s = encoded
        with self._lock:
            self.vectors += [NewVector(modality, vector, segment, model) for model, vector in placed.items()]
            self.parts += 1
            self.cpu_s += cpu_s

    @property
    def words(self) -> str:
        """What was said in a recording or film, or is read in a document."""
        if self.document is not None:
            return documents.visible_text(self.document)
        return " ".join(utterance.text for utterance in self.transcript)
