"""What pages show of datasets and assets: lists, fields of metadata, an asset's history, and its time line."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, QuerySet
from django.http import QueryDict
from django.utils.translation import gettext, gettext_lazy

from console.paging import parse_id
from console.presenters import actor_names
from tenants.accounts.permissions import ADMIN
from tenants.datasets.models import Asset, Dataset
from tenants.datasets.services import EMBEDDING_JOB
from tenants.datasets.shapes import TranscriptSegment
from tenants.datasets.values import FACET_TEXT
from tenants.events import selectors as events
from tenants.jobs.models import Job
from tenants.retrieval import dataset_health
from tenants.retrieval.models import Vector

GRID, TABLE = "grid", "table"

VIEWS = (GRID, TABLE)

NEWEST, OLDEST, BY_ID = "newest", "oldest", "external_id"

SORTS = (
    (NEWEST, gettext_lazy("Newest first")),
    (OLDEST, gettext_lazy("Oldest first")),
    (BY_ID, gettext_lazy("By external id")),
)

PAGE = {GRID: 24, TABLE: 50}

MAX_COLUMNS = 6

# Tags that are offered to choose from.
OFFERED_TAGS = 100

# Of how many datasets a session remembers the columns.
MAX_REMEMBERED = 30

SESSION_KEY = "asset_list"


@dataclass(frozen=True)
class ListLayout:
    """How the list is looked at: grid or table, its order, the status, tag and finding of an examination that it is
    narrowed to, the columns of metadata."""

    view: str
    sort: str
    status: str
    columns: tuple[str, ...]
    tag: str = ""
    finding: str = ""

    @property
    def size(self) -> int:
        return PAGE[self.view]


@dataclass(frozen=True)
class Row:
    """A line of the table: the asset, and the chosen keys with its values."""

    asset: Asset
    cells: list[tuple[str, str]]


def list_layout(given: QueryDict, session: Any, dataset: Dataset) -> ListLayout:
    """As the address says, else as it was left; what the address says is remembered."""
    kept = session.get(SESSION_KEY) or {}
    view, columns = kept.get("view", GRID), list(kept.get("columns", {}).get(str(dataset.id), ()))
    if given.get("view") in VIEWS:
        view = given["view"]
    if "choose" in given:
        columns = [key for key in given.getlist("column") if key in dataset.metadata_schema][:MAX_COLUMNS]
    _remember(session, kept, view, str(dataset.id), columns)
    status, sort, finding = (given.get(name, "") for name in ("status", "sort", "finding"))
    return ListLayout(
        view if view in VIEWS else GRID,
        sort if sort in dict(SORTS) else NEWEST,
        status if status in Asset.State.values else "",
        tuple(key for key in columns if key in dataset.metadata_schema),
        given.get("tag", "").replace("\0", "")[:FACET_TEXT],
        finding if finding in FINDINGS else "",
    )


def _remember(session: Any, kept: dict[str, Any], view: str, dataset: str, columns: list[str]) -> None:
    known = {key: value for key, value in kept.get("columns", {}).items() if key != dataset}
    if columns:
        known = dict([*known.items(), (dataset, columns)][-MAX_REMEMBERED:])
    now = {"view": view, "columns": known}
    # Only a change: a session that is written ends up in the database.
    if now != {"view": kept.get("view", GRID), "columns": kept.get("columns", {})}:
        session[SESSION_KEY] = now


def page_of(assets: QuerySet[Asset], sort: str, after: str, size: int) -> tuple[list[Asset], str]:
    """So many assets behind the place `after`, and the place of the next ones; "" where there are none."""
    found = list(_rows_after(assets, sort, after)[: size + 1])
    more = len(found) > size
    last = found[size - 1] if more else None
    return found[:size], "" if last is None else str(last.external_id if sort == BY_ID else last.pk)


def _rows_after(assets: QuerySet[Asset], sort: str, after: str) -> QuerySet[Asset]:
    if sort == BY_ID:
        # Those that have none are in no order, so they are not shown.
        rows = assets.filter(external_id__isnull=False).order_by("external_id")
        return rows.filter(external_id__gt=after.replace("\0", "")) if after else rows
    start = parse_id(after)
    if sort == OLDEST:
        rows = assets.order_by("id")
        return rows.filter(pk__gt=start) if start else rows
    return assets.filter(pk__lt=start) if start else assets


@dataclass(frozen=True)
class Finding:
    """What an examination looks for, in words: what it is, what it means, and what mends it."""

    label: Any
    meaning: Any
    advice: Any


FINDINGS = {
    dataset_health.DUPLICATE: Finding(
        gettext_lazy("Near-duplicates"),
        gettext_lazy("Groups of assets of one kind whose vectors are almost identical."),
        gettext_lazy("Keep one from each group and delete or tag the others."),
    ),
    dataset_health.OUTLIER: Finding(
        gettext_lazy("Outliers"),
        gettext_lazy("Assets that are far from everything else of their kind, the farthest first."),
        gettext_lazy("Check whether they belong here; delete or tag those that do not."),
    ),
    dataset_health.UNCAPTIONED: Finding(
        gettext_lazy("Without a caption"),
        gettext_lazy("Pictures, recordings and films that are found by what they show or say alone."),
        gettext_lazy("Open each and write a caption; fine-tunes learn from captions, too."),
    ),
    dataset_health.UNINDEXED: Finding(
        gettext_lazy("Not in the index"),
        gettext_lazy("Assets that are ready but have no vectors of the model that answers searches."),
        gettext_lazy("Add a caption, which reindexes them, or delete them."),
    ),
}


def page_of_finding(dataset_id: uuid.UUID, finding: str, after: str, size: int) -> tuple[list[Asset], str]:
    """So many assets of what an examination found, behind as many as `after` says; each with a `note` of its place
    among them, and of near-duplicates whether it is a `copy` of the one before."""
    first = int(after) if after.isascii() and after.isdecimal() and len(after) < 6 else 0
    # One more at each end: whether the first is a copy, and whether there are more.
    rows = list(dataset_health.found(dataset_id, finding)[max(0, first - 1) : first + size + 1])
    before = rows.pop(0) if first and rows else None
    assets = []
    for row in rows[:size]:
        asset: Any = row.asset
        if finding == dataset_health.DUPLICATE:
            asset.note = gettext("Group %(n)d") % {"n": row.number}
            asset.copy = before is not None and before.number == row.number
        elif finding == dataset_health.OUTLIER:
            asset.note = gettext("Similarity %(n).3f") % {"n": row.number}
        assets.append(asset)
        before = row
    return assets, str(first + size) if len(rows) > size else ""


def rows_of(assets: Sequence[Asset], columns: Sequence[str]) -> list[Row]:
    return [Row(asset, [(key, _cell(asset.metadata.get(key))) for key in columns]) for asset in assets]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(gettext_lazy("yes") if value else gettext_lazy("no"))
    if isinstance(value, list):
        return ", ".join(_cell(one) for one in value)
    return f"{value:,.10g}" if isinstance(value, float) else str(value)


def read_ids(form: QueryDict, name: str = "asset") -> list[uuid.UUID]:
    """The assets that were ticked; what is no id is left out."""
    found = (parse_id(value) for value in dict.fromkeys(form.getlist(name)))
    return [one for one in found if one is not None][: PAGE[TABLE] * 4]


@dataclass(frozen=True)
class Tab:
    """Assets of one status: `status` is empty for all of them."""

    status: str
    label: Any
    count: int


def tabs_of(dataset: Dataset) -> list[Tab]:
    """With the numbers of `selectors.counted_datasets`, which agree with what the lists show."""
    counted: Any = dataset
    total, ready, failed = counted.asset_count, counted.ready_count, counted.failed_count
    return [
        Tab("", gettext_lazy("All"), total),
        Tab(Asset.State.PENDING, gettext_lazy("Processing"), total - ready - failed),
        Tab(Asset.State.READY, gettext_lazy("Ready"), ready),
        Tab(Asset.State.FAILED, gettext_lazy("Failed"), failed),
    ]


@dataclass(frozen=True)
class Uploaded:
    """What became of a file that was sent without the script: an asset, or why not."""

    name: str
    asset: Asset | None
    reason: str = ""
    # The same content was there, and the dataset skips such.
    skipped: bool = False


KINDS = (
    ("text", gettext_lazy("Text")),
    ("number", gettext_lazy("Number")),
    ("bool", gettext_lazy("Yes or no")),
    ("time", gettext_lazy("Date or time")),
    ("tags", gettext_lazy("Tags: a list of short texts")),
)

SHOWN_VALUES = 5

# A field with so few different values, each of some assets, might be meant to have no others.
FEW = 10


@dataclass(frozen=True)
class FieldSummary:
    """One field: its entry in the schema, its frequent values with the number of assets, and how many do not fit."""

    key: str
    entry: dict[str, Any]
    counted: list[tuple[str, int]]
    misfits: int

    # Not read from `entry` in templates: where a dict lacks "values", they would find its method of that name.
    @property
    def label(self) -> str:
        return self.entry.get("label", "")

    @property
    def guessed(self) -> bool:
        return self.entry.get("guessed", False)

    @property
    def required(self) -> bool:
        return self.entry.get("required", False)

    @property
    def allowed(self) -> list[Any]:
        return self.entry.get("values", [])

    @property
    def kind(self) -> str:
        return str(dict(KINDS)[self.entry["type"]]).split(":")[0].split("：")[0]

    @property
    def values(self) -> list[tuple[str, int]]:
        return [(self._display_value(text), count) for text, count in self.counted[:SHOWN_VALUES]]

    @property
    def more(self) -> bool:
        return len(self.counted) > SHOWN_VALUES

    @property
    def suggested(self) -> list[str]:
        """The values so far, where they look like all there are to be."""
        few = 1 < len(self.counted) <= FEW and all(count > 1 for _, count in self.counted)
        fit = self.entry["type"] in {"text", "tags"} and not self.allowed
        return [text for text, _ in self.counted] if few and fit else []

    def _display_value(self, text: str) -> str:
        if self.entry["type"] == "number" and text.endswith(".0"):
            return text[:-2]
        return (
            {"true": gettext("yes"), "false": gettext("no")}.get(text, text)
            if self.entry["type"] == "bool"
            else text
        )


LINES = 10

EMBEDDING = frozenset(EMBEDDING_JOB.values())

#: How many of the newest jobs are looked through: what a job is about is no column that an index could be of.
NEWEST_SEARCHED = 1_000

# The jobs of an upload are made in its transaction, or soon after.
AT_FIRST = dt.timedelta(minutes=2)


@dataclass(frozen=True)
class LogLine:
    """A line of the log: who did what."""

    event: Any
    who: str


def log_lines(asset: Asset, scopes: Collection[str]) -> list[LogLine]:
    """The newest lines about an asset, for those who may read the log. In the tenant's scope."""
    if ADMIN not in scopes:
        return []
    found = list(events.about(str(asset.id))[:LINES])
    names = actor_names({event.actor for event in found})
    return [LogLine(event, names.get(event.actor, event.actor)) for event in found]


def jobs_about(asset: Asset) -> list[Job]:
    """Jobs of an asset, newest first: those of its upload, and those among the workspace's newest."""
    mine = Job.objects.filter(kind__in=EMBEDDING, arguments__asset=str(asset.id))
    oldest = (
        Job.objects.order_by("-id")
        .values_list("pk", flat=True)[NEWEST_SEARCHED - 1 : NEWEST_SEARCHED]
        .first()
    )
    first, until = asset.id, _id_after(asset.id, AT_FIRST)
    recent = list((mine.filter(pk__gte=oldest) if oldest else mine).order_by("-id")[:LINES])
    early = list(mine.filter(pk__gte=first, pk__lt=until).order_by("-id")[:LINES])
    return list({job.pk: job for job in [*recent, *early]}.values())[:LINES]


def vector_counts(asset: Asset) -> list[dict[str, Any]]:
    """How many vectors of it each model has, by what they stand for."""
    rows = Vector.objects.filter(asset=asset).order_by().values("model", "modality")
    return list(rows.annotate(count=Count("pk")).order_by("model", "modality"))


def _id_after(first: uuid.UUID, span: dt.timedelta) -> uuid.UUID:
    """The lowest id that is made so long after another one: UUIDv7 begins with milliseconds."""
    return uuid.UUID(int=first.int + (int(span.total_seconds() * 1000) << 80))


#: Of a film, evenly spread; more would be too small to tell apart on a phone.
FRAMES = 8

# A recording of an hour has hundreds of lines; beyond this the waveform would be nothing but borders.
MAX_REGIONS = 400


@dataclass(frozen=True)
class Region:
    """A stretch of the time line: its place and width in units of the waveform, and what is said in it."""

    x: float
    width: float
    start_s: float
    text: str


def regions_of(transcript: Iterable[TranscriptSegment], details: Mapping[str, Any] | None) -> list[Region]:
    """What was said, over the waveform's box: one unit wide for each of its peaks."""
    length, units = (details or {}).get("duration_s"), len((details or {}).get("peaks") or ())
    if not length or not units:
        return []
    step = units / length
    found = [
        Region(
            round(line.start_s * step, 2),
            round(max(0.2, (line.end_s - line.start_s) * step), 2),
            line.start_s,
            line.text,
        )
        for line in transcript
        if 0 <= line.start_s < length
    ]
    return found[:MAX_REGIONS]


def frames_of(details: Mapping[str, Any] | None) -> list[float]:
    """The moments of a film whose frames stand on its time line: the middle of each of its equal parts."""
    length = (details or {}).get("duration_s") or 0
    return [round(length * (at + 0.5) / FRAMES, 2) for at in range(FRAMES)] if length else []
