"""Stored assets as vectors in another space: as uploads are prepared, but from the files and transcripts there are."""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from django.db import DatabaseError

from ml.listening import Utterance
from ml.media import TRANSIENT, MediaError
from ml.passages import passages, segment_of
from tenants.datasets.models import Asset, TranscriptSegment
from tenants.jobs import services as jobs
from tenants.pipeline.assets.embedding import MEDIA, source_of, text_of
from tenants.pipeline.assets.prepared import Prepared, Report
from tenants.pipeline.assets.preparing import reembed_prepared
from tenants.pipeline.transfer.import_batches import TEXTS_AT_ONCE
from tenants.retrieval import model_routing, query

log = logging.getLogger(__name__)

EMPTY = "There is nothing in it that the model could see."


@dataclass
class Item:
    """One asset as it was read, and what became of it: vectors, or the reason why there are none."""

    asset: Asset
    prepared: Prepared
    spoken: list[Utterance] = field(default_factory=list)
    failure: str = ""

    @property
    def reason(self) -> str:
        return self.failure or ("" if self.prepared.parts else EMPTY)


def page_of(model: str, spaces: query.Spaces, *, above: uuid.UUID, count: int) -> list[Item]:
    """The next assets that lack vectors of a model, in the order of their ids. In the tenant's scope."""
    ids = model_routing.some_missing(model, above=above, count=count)
    assets = Asset.objects.select_related("blob").filter(pk__in=ids).order_by("pk")
    items = {asset.id: Item(asset, Prepared(spaces)) for asset in assets}
    media = [asset_id for asset_id, item in items.items() if item.asset.modality in MEDIA]
    said = TranscriptSegment.objects.filter(asset_id__in=media).order_by("asset_id", "start_s", "id")
    for row in said if media else ():
        items[row.asset_id].spoken.append(Utterance(row.start_s, row.end_s, row.text, row.confidence))
    return list(items.values())


def reembed(item: Item, spaces: query.Spaces, report: Report) -> None:
    """Encode one asset; what is wrong with its file becomes its failure. Raises what `report` raises, and OSError
    where the storage is away."""
    with _note_reason(item):
        try:
            _encode(item, spaces, report)
        except MediaError as error:
            if error.code not in TRANSIENT:
                raise
            _encode(item, spaces, report)


def _encode(item: Item, spaces: query.Spaces, report: Report) -> None:
    item.prepared = Prepared(spaces)
    with source_of(item.asset, text_of(item.asset)) as source:
        reembed_prepared(source, item.prepared, item.spoken, report)


def reembed_texts(items: Sequence[Item], spaces: query.Spaces) -> None:
    """Texts, all in few runs of the encoder; otherwise the same."""
    cuts: list[tuple[Item, str, dict[str, int] | None]] = []
    for item in items:
        with _note_reason(item):
            text = text_of(item.asset)
            cuts += [(item, text[start:end], segment_of(text, start, end)) for start, end in passages(text)]
    for first in range(0, len(cuts), TEXTS_AT_ONCE):
        some = cuts[first : first + TEXTS_AT_ONCE]
        encoded = query.place_texts([text for _, text, _ in some], spaces)
        for (item, _, segment), costed in zip(some, encoded, strict=True):
            item.prepared.add("text", costed, segment)


@contextlib.contextmanager
def _note_reason(item: Item) -> Iterator[None]:
    """What is wrong with a file is the item's; that the storage is away, or that nobody wants the job, is not."""
    try:
        yield
    except MediaError as error:
        item.failure = f"{error.code}: {error.message}"
    except FileNotFoundError:
        item.failure = "The file is not there."
    except (jobs.Cancelled, jobs.LeaseLost, OSError, DatabaseError):
        raise
    except Exception:
        log.exception("asset could not be embedded", extra={"asset": str(item.asset.id)})
        item.failure = "internal error; the worker's log has the details"
