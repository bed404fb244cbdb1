"""From content to what is stored of it: decoded and encoded, outside any transaction.

Embedding jobs and imports share this; what differs is only who stores the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from ml.media import MediaError
from ml.passages import passages as passages_of
from ml.passages import segment_of
from tenants.datasets import documents
from tenants.datasets.models import Asset
from tenants.pipeline.assets.prepared import Prepared, Report, Source
from tenants.retrieval import query

if TYPE_CHECKING:
    from ml.listening import Utterance

# Passages of a document that are encoded in one run.
AT_ONCE = 32

Embed = Callable[[np.ndarray, query.Spaces], query.Costed]


def _no_report(done: float, total: float) -> None:
    """Nobody waits for a report."""


def prepare(
    source: Source, prepared: Prepared, report: Report = _no_report, *, in_bulk: bool = False
) -> Prepared:
    """Decode and encode into `prepared`, which counts what it costs also where it fails.

    `in_bulk`: the caller's threads fill the cores, so that sharing batches would only make them wait. Raises
    MediaError, and whatever `report` raises.
    """
    try:
        _prepare(source, prepared, report, in_bulk)
    except MediaError as error:
        prepared.spend(error.cpu_s)
        raise
    return prepared


def _prepare(source: Source, prepared: Prepared, report: Report, in_bulk: bool) -> None:
    if source.is_document:
        _read_document(source, prepared)
        _encode_document(prepared, report)
        return
    if source.modality == Asset.Modality.IMAGE:
        _encode_image(source, prepared, query.place_image if in_bulk else query.share_image)
    elif source.modality != Asset.Modality.TEXT:
        _prepare_media(source, prepared, report)
    _encode_texts(source, prepared)


def reembed_prepared(
    source: Source, prepared: Prepared, spoken: Sequence[Utterance], report: Report = _no_report
) -> Prepared:
    """Only the vectors, in other spaces: of what is said by the transcript that is there, hence without listening, and
    of documents by what was read of them.

    Raises as `prepare`.
    """
    try:
        if source.is_document:
            prepared.document = source.document or documents.read(source.file, source.media_type)
            _encode_document(prepared, report)
            return prepared
        if source.modality == Asset.Modality.IMAGE:
            picture = query.decoder().image(source.file, thumbnail=False)
            prepared.spend(picture.cpu_s)
            prepared.add("image", query.place_image(picture.pixels, prepared.spaces))
        elif source.modality != Asset.Modality.TEXT:
            _reembed_media(source, prepared, spoken, report)
        _encode_texts(source, prepared)
    except MediaError as error:
        prepared.spend(error.cpu_s)
        raise
    return prepared


def _reembed_media(source: Source, prepared: Prepared, spoken: Sequence[Utterance], report: Report) -> None:
    from tenants.pipeline.assets import audio_video

    if source.modality == Asset.Modality.VIDEO:
        audio_video.prepare_moments(source, prepared, report)
    audio_video.add_spoken(prepared, spoken)


def _encode_texts(source: Source, prepared: Prepared) -> None:
    for number, text in enumerate(source.captions or (source.text,)):
        for start, end in passages_of(text):
            encoded = query.share_text(text[start:end], prepared.spaces)
            prepared.add("text", encoded, segment_of(text, start, end, number))


def _read_document(source: Source, prepared: Prepared) -> None:
    """What it says, unless that is known, and a small picture of its first page."""
    prepared.document = source.document
    if prepared.document is None:
        prepared.document = documents.read(source.file, source.media_type)
        prepared.spend(prepared.document.cpu_s)
    if source.media_type == documents.PDF:
        # A page that cannot be drawn can be read all the same.
        with suppress(MediaError, ValueError):
            prepared.thumbnail = documents.draw(source.file, 1, documents.THUMBNAIL_WIDTH)


def _encode_document(prepared: Prepared, report: Report) -> None:
    """A vector for each passage."""
    if prepared.document is None:
        raise RuntimeError("a document is read before it is encoded")
    text = prepared.document.text
    passages, prepared.passages_cut = documents.cut(documents.passages_of(prepared.document))
    for first in range(0, len(passages), AT_ONCE):
        report(first, len(passages))
        some = passages[first : first + AT_ONCE]
        encoded = query.place_texts([text[one.start : one.end] for one in some], prepared.spaces)
        for passage, costed in zip(some, encoded, strict=True):
            prepared.add("text", costed, passage.segment)


def _prepare_media(source: Source, prepared: Prepared, report: Report) -> None:
    # Imported on first use: most workers never hear a sound.
    from tenants.pipeline.assets import audio_video

    audio_video.prepare_media(source, prepared, report)


def _encode_image(source: Source, prepared: Prepared, embed: Embed) -> None:
    picture = query.decoder().image(source.file)
    prepared.spend(picture.cpu_s)
    prepared.width, prepared.height = picture.width, picture.height
    prepared.thumbnail = picture.thumbnail
    prepared.clean, prepared.clean_type = picture.clean, picture.clean_type or ""
    prepared.add("image", embed(picture.pixels, prepared.spaces))
