"""Raw pairs to feature shards: every picture and caption goes through the frozen encoders once.

python -m ml.training extract s3://bucket/train/ --out shards/
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ml.alignment.space import JointSpace
from ml.media import Decoder, MediaError
from ml.training.shards import Pair, ShardWriter
from ml.training.sources import RawPair, Unreadable, raw_pairs

BATCH = 8
#: Reasons that are kept for the report; the count goes on.
MOST_FAILURES = 100

Progress = Callable[[int, int], None]


@dataclass
class Extracted:
    """What became of the sources. ``failures`` are the first MOST_FAILURES of ``unreadable``."""

    pairs: int = 0
    unreadable: int = 0
    failures: list[dict[str, str]] = field(default_factory=list)

    def fail(self, entry: Unreadable) -> None:
        self.unreadable += 1
        if len(self.failures) < MOST_FAILURES:
            self.failures.append({"key": entry.key, "reason": entry.reason})


@dataclass(frozen=True)
class _Seen:
    raw: RawPair
    pixels: Any


def extract(
    sources: Sequence[str], out: Path, space: JointSpace, progress: Progress | None = None
) -> Extracted:
    """Write the pairs of ``sources`` into ``out`` as feature shards of ``space``'s encoders.

    Memory is that of BATCH pictures and one row group. ``progress(pairs, unreadable)`` is called a batch.
    """
    result = Extracted()
    with Decoder() as decoder, ShardWriter(out, space.encoders_key) as writer:
        for batch in _batched(_decoded(raw_pairs(sources), decoder, result)):
            for pair in encode(batch, space):
                writer.add(pair)
            result.pairs += len(batch)
            if progress:
                progress(result.pairs, result.unreadable)
    return result


def encode(batch: Sequence[_Seen], space: JointSpace) -> Iterator[Pair]:
    """Pairs of decoded pictures, as the encoders of ``space`` see and read them."""
    sight = space.see([one.pixels for one in batch])
    texts = [caption for one in batch for caption in one.raw.captions]
    reading = space.read(texts)
    ends = np.cumsum([len(one.raw.captions) for one in batch])
    for row, one in enumerate(batch):
        mine = slice(ends[row] - len(one.raw.captions), ends[row])
        yield Pair(
            key=one.raw.key,
            group=one.raw.group,
            split=one.raw.split,
            captions=one.raw.captions,
            text=_half(reading.vectors[mine]),
            text_colours=_half(reading.colours[mine]),
            probabilities=_half(sight.probabilities[row]),
            features=_half(sight.features[row]),
            colours=_half(sight.colours[row]),
        )


def _decoded(entries: Iterable[RawPair | Unreadable], decoder: Decoder, result: Extracted) -> Iterator[_Seen]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "picture"
        for entry in entries:
            if isinstance(entry, Unreadable):
                result.fail(entry)
                continue
            path.write_bytes(entry.image)
            try:
                yield _Seen(entry, decoder.image(path, thumbnail=False).pixels)
            except MediaError as error:
                result.fail(Unreadable(entry.key, error.message))


def _batched(items: Iterable[_Seen]) -> Iterator[list[_Seen]]:
    rest = iter(items)
    while batch := list(itertools.islice(rest, BATCH)):
        yield batch


def _half(values: Any) -> Any:
    return np.asarray(values).astype(np.float16)
