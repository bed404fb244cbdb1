"""The tags of sound and film, as FFmpeg reads them (ID3, MP4 atoms, RIFF INFO, Vorbis comments, Matroska), and XMP."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import av

from ml.media.model import File
from ml.provenance.tags import pictures, xmp
from ml.provenance.tags.model import Exhausted, Tags

_OPTIONS = {"export_xmp": "1", "max_streams": "256", "analyzeduration": "0", "probesize": "1000000"}
_OPTIONS |= {"protocol_whitelist": "none"}  # the kind of file is guessed here, and playlists name others
MAX_STREAMS = 64


def read(path: File, tags: Tags) -> None:
    """Add the tags of a sound or film."""
    try:
        _containers(path, tags)
        with path.open("rb") as file:
            for content in pictures.ends(file):
                xmp.scan(content, tags)
    except Exhausted:
        tags.complete = False


def _containers(path: File, tags: Tags) -> None:
    try:
        with av.open(path.open("rb"), metadata_errors="replace", options=_OPTIONS) as container:
            _keep(container.metadata, tags)
            for stream in itertools.islice(container.streams, MAX_STREAMS):
                _keep(stream.metadata, tags)
    except (av.FFmpegError, ValueError, EOFError):
        tags.complete = False


def _keep(metadata: Mapping[str, str], tags: Tags) -> None:
    for key, value in metadata.items():
        tags.budget.step()
        if key != "xmp":  # it is found by the scan as well
            tags.add("container", key, value)
