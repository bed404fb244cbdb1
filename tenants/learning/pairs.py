"""What a model can learn from in a dataset: pictures with captions, in a fixed order, a page at a time.

An asset may have several captions, and assets with the same bytes are one picture with the captions of all. Pictures
that share a caption, or a value of the chosen metadata key, are one group: a group never stands on both sides of a
split.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from django.db.models import Count, Func, IntegerField, Q, QuerySet, Sum

from tenants.datasets.models import Asset
from tenants.learning import dataset_versions
from tenants.scope import tenant_scope

PAGE = 1_000


@dataclass(frozen=True)
class Picture:
    """One picture: the first of its assets names it."""

    asset_id: uuid.UUID
    blob_id: uuid.UUID
    sha256: str
    captions: tuple[str, ...]
    group: str


def captioned(
    *dataset_ids: uuid.UUID | str, generated: bool = False, version: uuid.UUID | str | None = None
) -> QuerySet[Asset]:
    """Pictures with a caption that nobody holds back, in whatever state; with `version` those that it lists. In the
    tenant's scope.

    Those that were made here from words only where `generated` asks for them: a model would learn what another one
    believes.
    """
    pictures = Asset.objects.filter(dataset_id__in=dataset_ids, modality=Asset.Modality.IMAGE)
    if version is not None:
        pictures = pictures.filter(pk__in=dataset_versions.lines_of(version).values("asset_id"))
    pictures = pictures if generated else pictures.filter(generation_id=None)
    return pictures.exclude(caption="", prompt="").exclude(moderation__in=Asset.HIDDEN)


def usable(
    *dataset_ids: uuid.UUID | str, generated: bool = False, version: uuid.UUID | str | None = None
) -> QuerySet[Asset]:
    return captioned(*dataset_ids, generated=generated, version=version).filter(status=Asset.State.READY)


def counts(
    dataset_ids: Iterable[uuid.UUID], *, generated: bool = False, version: uuid.UUID | None = None
) -> Counter[uuid.UUID]:
    """Pairs of picture and caption by dataset, in one statement; 0 where there are none."""
    further = Func("more_captions", function="jsonb_array_length", output_field=IntegerField())
    rows = (
        usable(*dataset_ids, generated=generated, version=version)
        .order_by()
        .values_list("dataset_id")
        .annotate(pairs=Count("id") + Sum(further))
    )
    return Counter(dict(rows))


def unreadable(
    dataset_id: uuid.UUID | str, *, generated: bool = False, version: uuid.UUID | str | None = None
) -> int:
    """Pictures with a caption that could not be decoded when they came in."""
    return (
        captioned(dataset_id, generated=generated, version=version).filter(status=Asset.State.FAILED).count()
    )


class Pairs:
    """The pictures of a dataset, or of a version of it, as they stood at the asset `until` (None: now), in the order of
    their blobs."""

    def __init__(
        self,
        tenant_id: uuid.UUID,
        dataset_id: str,
        *,
        group_by: str = "",
        until: str | None = None,
        generated: bool = False,
        version: str | None = None,
    ) -> None:
        self.tenant_id, self.dataset_id, self.group_by = tenant_id, dataset_id, group_by
        self.generated, self.version = generated, version
        with tenant_scope(tenant_id):
            last = self._usable().order_by("-id").values_list("id", flat=True).first()
        self.until = until or str(last or uuid.UUID(int=0))
        self._groups: Groups | None = None

    def after(self, blob_id: str | None) -> Iterator[Picture]:
        """The pictures behind this blob, or all."""
        for _, rows in groupby(self._rows(blob_id), key=lambda row: row.blob_id):
            yield self._picture(list(rows))

    def _rows(self, blob_id: str | None) -> Iterator[Asset]:
        behind = Q(blob_id__gt=blob_id) if blob_id else Q()
        while True:
            with tenant_scope(self.tenant_id):
                page = self._page(behind)
            yield from page
            if len(page) < PAGE:
                return
            last = page[-1]
            behind = Q(blob_id=last.blob_id, id__gt=last.id) | Q(blob_id__gt=last.blob_id)

    def _usable(self) -> QuerySet[Asset]:
        return usable(self.dataset_id, generated=self.generated, version=self.version)

    def _page(self, behind: Q) -> list[Asset]:
        rows = self._usable().filter(behind, id__lte=self.until).select_related("blob")
        rows = rows.only("id", "blob_id", "blob__sha256", "caption", "more_captions", "prompt", "metadata")
        return list(rows.order_by("blob_id", "id")[:PAGE])

    def _picture(self, rows: list[Asset]) -> Picture:
        captions = tuple(dict.fromkeys(caption for row in rows for caption in _words(row)))
        first = rows[0]
        return Picture(first.id, first.blob_id, first.blob.sha256, captions, self._group(first, captions))

    def _group(self, row: Asset, captions: tuple[str, ...]) -> str:
        if self.group_by and (value := row.metadata.get(self.group_by)) not in (None, "", []):
            return f"{self.group_by}={json.dumps(value, sort_keys=True)}"[:200]
        if self._groups is None:
            self._groups = self._found_groups()
        return self._groups.of(captions[0])

    def _found_groups(self) -> Groups:
        groups = Groups()
        for _, rows in groupby(self._rows(None), key=lambda row: row.blob_id):
            groups.join(caption for row in rows for caption in _words(row))
        return groups


def _words(asset: Asset) -> list[str]:
    """Its captions; of what was made here, and has got none since, what it was made from."""
    return asset.captions or [asset.prompt]


class Groups:
    """Captions that stand at the same picture belong together, and so on through other pictures (union-find).

    Captions are kept as numbers of 64 bits: a million take some 100 MB.
    """

    def __init__(self) -> None:
        self._parent: dict[int, int] = {}

    def join(self, captions: Iterator[str]) -> None:
        first = None
        for caption in captions:
            root = self._root(_number(caption))
            first = root if first is None else first
            # The smaller number is the name, whatever the order.
            low, high = sorted((self._root(first), root))
            self._parent[high] = low

    def of(self, caption: str) -> str:
        return f"{self._root(_number(caption)):016x}"

    def _root(self, one: int) -> int:
        above = self._parent.setdefault(one, one)
        while above != one:
            self._parent[one] = self._parent[above]
            one, above = above, self._parent[above]
        return one


def _number(caption: str) -> int:
    plain = " ".join(caption.lower().split())
    return int.from_bytes(hashlib.blake2b(plain.encode(), digest_size=8).digest())
