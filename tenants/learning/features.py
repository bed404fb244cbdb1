"""The pictures of a dataset as the frozen encoders see them, written to feature shards: once for all epochs.

One part after the other, each whole before it has its name, with how far it has come beside: a killed attempt goes on
after the last whole part. Pictures come from strangers, so they are decoded in the limited child process.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from django.conf import settings

from ml.media import TRANSIENT, MediaError
from ml.training.shards import Pair, ShardWriter
from tenants.datasets import storage
from tenants.errors import room_on_disk
from tenants.learning.pairs import Pairs, Picture
from tenants.retrieval import query

if TYPE_CHECKING:
    from ml.alignment.space import JointSpace

#: Pictures of one part, and of one look at them: as many are decoded at once.
PART, LOOK = 128, 8
SAMPLES = 20
STATE = "extracted.json"
Pixels = np.ndarray


@dataclass
class Extracted:
    """What has been written. `after` is the blob of the last picture, `digest` chains over pictures and captions,
    `unreadable` counts pictures that no decoder reads, of which `samples` names some assets."""

    until: str
    after: str | None = None
    parts: int = 0
    pictures: int = 0
    captions: int = 0
    unreadable: int = 0
    samples: list[str] = field(default_factory=list)
    digest: str = ""
    cpu_s: float = 0.0

    @classmethod
    def read(cls, folder: Path) -> Extracted | None:
        path = folder / STATE
        return cls(**json.loads(path.read_text())) if path.exists() else None

    def write(self, folder: Path) -> None:
        part = folder / f"{STATE}.part"
        part.write_text(json.dumps(asdict(self)))
        part.replace(folder / STATE)

    def note_unreadable(self, picture: Picture) -> None:
        self.unreadable += 1
        if len(self.samples) < SAMPLES:
            self.samples.append(str(picture.asset_id))


class PartDone(Protocol):
    """Called after each part with what has been written and the processor time of that part."""

    def __call__(self, extracted: Extracted, cpu_s: float) -> None: ...


def extract(pairs: Pairs, space: JointSpace, folder: Path, told: PartDone) -> Extracted:
    """Write `folder/pairs/`, going on where an earlier attempt stopped. In no scope. Raises whatever `told` raises."""
    with room_on_disk():
        (folder / "pairs").mkdir(parents=True, exist_ok=True)
        done = Extracted.read(folder) or Extracted(until=pairs.until)
        pictures = pairs.after(done.after)
        while part := list(islice(pictures, PART)):
            cpu_s = done.cpu_s
            Part(pairs, space, folder, done).write(part)
            told(done, done.cpu_s - cpu_s)
    return done


class Part:
    """One part: looked at, written under a hidden name, renamed, and noted."""

    def __init__(self, pairs: Pairs, space: JointSpace, folder: Path, done: Extracted) -> None:
        self.pairs, self.space, self.folder, self.done = pairs, space, folder, done

    def write(self, pictures: list[Picture]) -> None:
        begun = time.process_time()
        waiting, whole = self.folder / "writing", self.folder / "pairs" / f"{self.done.parts:05d}"
        for left in (waiting, whole):
            # Of an attempt that was killed before it noted this part.
            shutil.rmtree(left, ignore_errors=True)
        with ShardWriter(waiting, self.space.encoders_key) as writer:
            for some in _by(LOOK, pictures):
                for pair in self._encode(some):
                    writer.add(pair)
                    self._count(pair)
        waiting.rename(whole)
        self.done.parts, self.done.after = self.done.parts + 1, str(pictures[-1].blob_id)
        self.done.cpu_s += time.process_time() - begun
        self.done.write(self.folder)

    def _count(self, pair: Pair) -> None:
        self.done.pictures += 1
        self.done.captions += len(pair.captions)
        line = json.dumps([self.done.digest, pair.key, pair.captions])
        self.done.digest = hashlib.sha256(line.encode()).hexdigest()

    def _encode(self, pictures: list[Picture]) -> Iterator[Pair]:
        decoded = [(one, pixels) for one in pictures if (pixels := self._decoded(one)) is not None]
        if not decoded:
            return
        sight = self.space.see([pixels for _, pixels in decoded])
        reading = self.space.read([caption for one, _ in decoded for caption in one.captions])
        start = 0
        for row, (one, _) in enumerate(decoded):
            rows = slice(start, start + len(one.captions))
            start = rows.stop
            yield Pair(
                key=str(one.asset_id),
                group=one.group,
                split="",
                captions=one.captions,
                text=_half(reading.vectors[rows]),
                text_colours=_half(reading.colours[rows]),
                probabilities=_half(sight.probabilities[row]),
                features=_half(sight.features[row]),
                colours=_half(sight.colours[row]),
            )

    def _decoded(self, picture: Picture) -> Pixels | None:
        path = storage.path_of(self.pairs.tenant_id, picture.sha256)
        try:
            with storage.local(path, settings.SPOOL_DIR) as file:
                found = query.decoder().image(file, thumbnail=False)
        except MediaError as error:
            if error.code in TRANSIENT:
                raise
            self.done.cpu_s += error.cpu_s
            self.done.note_unreadable(picture)
            return None
        except FileNotFoundError:
            # Erased meanwhile, or lost: there is nothing to learn from.
            self.done.note_unreadable(picture)
            return None
        self.done.cpu_s += found.cpu_s
        return found.pixels


def _half(values: np.ndarray) -> Any:
    return np.asarray(values, np.float16)


def _by(size: int, pictures: list[Picture]) -> Iterator[list[Picture]]:
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]
