"""From content to what is stored of it: decoded and encoded, outside any transaction.

Embedding jobs and imports share this; what differs is only who stores the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ml.media import MediaError
from ml.passages import passages, segment_of
from tenants.datasets.models import Asset
from tenants.pipeline.assets.prepared import Prepared, Report, Source
from tenants.retrieval import query

if TYPE_CHECKING:
    from ml.listening import Utterance

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
    if source.modality == Asset.Modality.IMAGE:
        _encode_image(source, prepared, query.place_image if in_bulk else query.share_image)
    elif source.modality != Asset.Modality.TEXT:
        _prepare_media(source, prepared, report)
    _encode_texts(source, prepared)


def reembed_prepared(
    source: Source, prepared: Prepared, spoken: Sequence[Utterance], report: Report = _no_report
) -> Prepared:
    """Only the vectors, in other spaces: of what is said by the transcript that is there, hence without listening.

    Raises as `prepare`.
    """
    try:
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
        for start, end in passages(text):
            encoded = query.share_text(text[start:end], prepared.spaces)
            prepared.add("text", encoded, segment_of(text, start, end, number))


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
