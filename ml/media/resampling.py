"""Any sound to int16 mono 16 kHz. PyAV's own resampler starts a thread for each core; this one starts none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from av.error import BlockingIOError as NotYet
from av.filter import Graph

SAMPLE_RATE = 16_000

Shape = tuple[str, str, int]


def shape_of(frame: Any) -> Shape:
    """What a resampler is made for: sample format, channel layout, rate."""
    return frame.format.name, frame.layout.name, frame.sample_rate


class Resampler:
    """Consecutive frames of one shape to consecutive samples."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._graph = Graph()
        self._graph.threads = 1
        kind, layout, rate = shape
        source = self._graph.add(
            "abuffer",
            sample_rate=str(rate),
            sample_fmt=kind,
            channel_layout=layout,
            time_base=f"1/{rate}",
        )
        # Integers: mixing channels down to floats would sum them to beyond 1.
        target = self._graph.add(
            "aformat", sample_rates=str(SAMPLE_RATE), sample_fmts="s16", channel_layouts="mono"
        )
        source.link_to(target)
        target.link_to(self._graph.add("abuffersink"))
        self._graph.configure()

    def add(self, frame: Any | None) -> Iterator[bytes]:
        """The samples that ``frame`` completes; None drains the rest."""
        if frame is not None:
            # With timestamps the samples would be stretched to follow them.
            frame.pts = None
        self._graph.push(frame)
        while True:
            try:
                yield _content(self._graph.pull())
            except (NotYet, EOFError):
                return


def _content(frame: Any) -> bytes:
    # A plane is padded for alignment: only its first samples count.
    return bytes(frame.planes[0])[: 2 * frame.samples]
