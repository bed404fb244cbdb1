"""What jobs are about, in words: the thing that a job's arguments name, its page, and jobs that are found by its name.

Things are read by one statement for each kind of thing, however many jobs a list has. Who may not open the page of a
kind of thing neither reads such names nor finds jobs by them.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from django.db.models import Model, Q, QuerySet
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.learning.presenters import names_of_spaces
from console.paging import parse_id
from console.presenters import actor_names, asset_name
from tenants.accounts.permissions import MODERATE, READ
from tenants.datasets.models import Asset, Dataset, DatasetVersion, Import
from tenants.datasets.selectors import get_assets, is_shown
from tenants.generation.models import Generation
from tenants.jobs import timing
from tenants.jobs.kinds import KINDS
from tenants.jobs.models import Job
from tenants.learning.builtin import builtin_spaces
from tenants.learning.models import ClassifierVersion, LearntModel
from tenants.moderation.models import AuditRequest, Policy, PolicyVersion
from tenants.retrieval.models import EmbeddingMap

# Characters of a name that a line has room for.
ROOM = 60
# A search by name looks through so many of the newest jobs and assets, and takes so many things of a kind: row-level
# security keeps Postgres from indexes on words and on JSON, so it reads them.
SEARCHED, MOST_NAMED = 50_000, 1_000
# The beginning of an id, as people copy it from a log.
_ID_START = re.compile(r"[0-9a-f]{8}[0-9a-f-]{0,28}")

Ids = list[uuid.UUID]


@dataclass(frozen=True)
class Thing:
    """What a job is about. `also`: the name of what it belongs to, such as the dataset of an import."""

    name: str
    page: str = ""
    also: str = ""


@dataclass(frozen=True)
class JobLine:
    """A job as lists show it: "Embed pears.jpg", and the page of what it is about, where the person may open it."""

    job: Job
    words: str
    page: str
    page_label: str
    who: str
    timing: timing.Timing


@dataclass(frozen=True)
class Source:
    """A kind of thing: how those that jobs name are read, and how their names are looked for.

    `read` gets what stands in the arguments and the scopes of who looks; `find` answers what would stand there.
    `scope` is that of the page.
    """

    scope: str
    link: Promise | str
    read: Callable[[set[str], Collection[str]], Mapping[str, Thing]]
    find: Callable[[str], Iterable[str]]


@dataclass(frozen=True)
class About:
    """Which argument of a kind of job names what it is about, and the sentence that says so."""

    argument: str
    source: str
    words: Promise | str


ABOUT = {
    "embed_asset": About("asset", "asset", gettext_lazy("Embed %(name)s")),
    "embed_media": About("asset", "asset", gettext_lazy("Embed %(name)s")),
    "embed_document": About("asset", "asset", gettext_lazy("Read %(name)s")),
    "audit_item": About("audit", "audit", gettext_lazy("Audit %(name)s")),
    "match_again": About("asset", "asset", gettext_lazy("Look for copies of %(name)s")),
    "import_assets": About("import", "import", gettext_lazy("Import %(name)s into %(also)s")),
    "delete_dataset": About("dataset", "dataset", gettext_lazy("Delete the dataset %(name)s")),
    "reindex_metadata": About("dataset", "dataset", gettext_lazy("Apply changed fields of %(name)s")),
    "examine_dataset": About("dataset", "dataset", gettext_lazy("Examine %(name)s")),
    "make_dataset_version": About(
        "version", "dataset version", gettext_lazy("Make the version %(name)s of %(also)s")
    ),
    "merge_copies": About("dataset", "dataset", gettext_lazy("Merge copies of files in %(name)s")),
    "generate": About("generation", "generation", gettext_lazy("Generate “%(name)s”")),
    "finetune": About("model", "model", gettext_lazy("Fine-tune the model %(name)s")),
    "embed_beside": About("model", "space", gettext_lazy("Embed for the model %(name)s")),
    "embed_shard": About("model", "space", gettext_lazy("Embed a part for the model %(name)s")),
    "build_index": About("model", "space", gettext_lazy("Build the index of the model %(name)s")),
    "project_map": About("map", "map", gettext_lazy("Draw the map %(name)s")),
    "train_classifier": About("version", "classifier", gettext_lazy("Train the classifier %(name)s")),
    "score_assets": About("version", "classifier", gettext_lazy("Apply the classifier %(name)s")),
    "backtest_policy": About(
        "version", "policy version", gettext_lazy("Try the policy %(name)s on the history")
    ),
    "recalibrate_policy": About("policy", "policy", gettext_lazy("Adjust thresholds of the policy %(name)s")),
}
# About the whole workspace, about a person who is not to be named, or about what is gone by then.
NAMELESS = frozenset(
    {
        "live_stream",
        "export_tenant",
        "export_dataset_version",
        "erase_subject",
        "train_gate",
        "calibrate_relevance",
        "forget_scores",
        "match_standing",
        "read_stream",
    }
)


# --- Lines -----------------------------------------------------------------------------------------------


def job_lines(jobs: Sequence[Job], scopes: Collection[str]) -> list[JobLine]:
    """Jobs with what they are about and who asked. What was deleted meanwhile has no name. In the tenant's scope."""
    things = _things(jobs, scopes)
    who = actor_names(job.requested_by for job in jobs if job.requested_by)
    return [
        JobLine(
            job,
            words_of(job, things.get(job.pk)),
            thing.page if (thing := things.get(job.pk)) else "",
            str(SOURCES[ABOUT[job.kind].source].link) if job.kind in ABOUT else "",
            who_asked(job.requested_by, who),
            timing.timing_of(job),
        )
        for job in jobs
    ]


def words_of(job: Job, thing: Thing | None) -> str:
    if thing is None:
        return str(KINDS[job.kind].label) if job.kind in KINDS else job.kind.replace("_", " ").capitalize()
    return str(ABOUT[job.kind].words) % {"name": thing.name, "also": thing.also}


def who_asked(actor: str | None, names: Mapping[str, str]) -> str:
    """A person or key by name, the system; empty where an earlier release did not note it."""
    if actor is None:
        return ""
    return names.get(actor, actor) if actor else _("The system")


def _things(jobs: Sequence[Job], scopes: Collection[str]) -> dict[uuid.UUID, Thing]:
    """What each job is about, by the job's id."""
    named: dict[str, dict[uuid.UUID, str]] = {}
    for job in jobs:
        about = ABOUT.get(job.kind)
        value = job.arguments.get(about.argument) if about else None
        if about and isinstance(value, str) and SOURCES[about.source].scope in scopes:
            named.setdefault(about.source, {})[job.pk] = value
    found: dict[uuid.UUID, Thing] = {}
    for source, values in named.items():
        things = SOURCES[source].read(set(values.values()), scopes)
        found |= {job_id: things[value] for job_id, value in values.items() if value in things}
    return found


# --- Jobs by what they are about --------------------------------------------------------------------------


def matching(rows: QuerySet[Job], text: str, scopes: Collection[str]) -> QuerySet[Job]:
    """Those of `rows` whose id begins so, or that are about a thing with this id or of such a name.

    Of names only the newest SEARCHED jobs are looked through. In the tenant's scope.
    """
    asked = text.strip().lower()
    if found := parse_id(asked):
        about = [Q(**{f"arguments__{name}": str(found)}) for name in {one.argument for one in ABOUT.values()}]
        return rows.filter(reduce(or_, about, Q(pk=found) | Q(parent_id=found)))
    wanted = Q(kind__in=[name for name, kind in KINDS.items() if asked in str(kind.label).lower()])
    if _ID_START.fullmatch(asked):
        digits = asked.replace("-", "")
        wanted |= Q(pk__gte=uuid.UUID(digits.ljust(32, "0")), pk__lte=uuid.UUID(digits.ljust(32, "f")))
    for name, source in SOURCES.items():
        if source.scope in scopes and (values := list(source.find(asked))):
            wanted |= _naming(name, values)
    return _newest(rows, Job.objects.all()).filter(wanted)


def _naming(source: str, values: list[str]) -> Q:
    """Jobs of the kinds that name such things, and name one of these."""
    kinds: dict[str, list[str]] = {}
    for kind, about in ABOUT.items():
        if about.source == source:
            kinds.setdefault(about.argument, []).append(kind)
    by_argument = [Q(**{"kind__in": some, f"arguments__{name}__in": values}) for name, some in kinds.items()]
    return reduce(or_, by_argument)


def _newest(rows: QuerySet[Any], among: QuerySet[Any]) -> QuerySet[Any]:
    """`rows` without those that are older than the newest SEARCHED of `among`."""
    last = among.order_by("-id").values_list("pk", flat=True)[SEARCHED : SEARCHED + 1].first()
    return rows if last is None else rows.filter(pk__gt=last)


# --- Each kind of thing ------------------------------------------------------------------------------------


def _ids(values: Iterable[str]) -> Ids:
    return [found for value in values if (found := parse_id(value))]


def _short(text: str) -> str:
    return Truncator(text).chars(ROOM)


def _texts(rows: QuerySet[Any], column: str = "pk") -> list[str]:
    return [str(one) for one in rows.order_by("-id").values_list(column, flat=True)[:MOST_NAMED]]


def _asset(asset: Asset, scopes: Collection[str]) -> Thing:
    name = asset_name(asset, ROOM, asset.get_modality_display().lower())
    return Thing(name, reverse("console:asset", args=[asset.pk]) if is_shown(asset, scopes) else "")


def _read_assets(values: set[str], scopes: Collection[str]) -> dict[str, Thing]:
    return {str(key): _asset(asset, scopes) for key, asset in get_assets(_ids(values)).items()}


def _assets_named(text: str) -> QuerySet[Asset]:
    """What is hidden is not found by its words: that would tell them."""
    named = Q(filename__icontains=text) | Q(external_id__icontains=text) | Q(caption__icontains=text)
    return _newest(Asset.objects.filter(named).exclude(moderation__in=Asset.HIDDEN), Asset.objects.all())


def _read_audits(values: set[str], scopes: Collection[str]) -> dict[str, Thing]:
    rows = AuditRequest.objects.select_related("asset").filter(
        pk__in=_ids(values), asset__dataset__deleted_at=None
    )
    return {str(row.pk): _asset(row.asset, scopes) for row in rows if row.asset is not None}


def _find_audits(text: str) -> list[str]:
    assets = [uuid.UUID(one) for one in _texts(_assets_named(text))]
    return _texts(AuditRequest.objects.filter(asset_id__in=assets)) if assets else []


def _read_dataset_versions(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    rows = DatasetVersion.objects.select_related("dataset").filter(pk__in=_ids(values))
    return {
        str(row.pk): Thing(
            _short(row.name),
            reverse("console:dataset-version", args=[row.dataset_id, row.pk])
            if row.dataset.deleted_at is None
            else "",
            _short(row.dataset.name),
        )
        for row in rows
    }


def _read_imports(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    rows = Import.objects.select_related("dataset").filter(pk__in=_ids(values))
    return {
        str(row.pk): Thing(
            _short(row.location),
            reverse("console:import", args=[row.pk]) if row.dataset.deleted_at is None else "",
            _short(row.dataset.name),
        )
        for row in rows
    }


def _find_imports(text: str) -> list[str]:
    return _texts(Import.objects.filter(Q(location__icontains=text) | Q(dataset__name__icontains=text)))


def _read_datasets(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    # Also what is being deleted: its job still has a name, and no page.
    return {
        str(row.pk): Thing(
            _short(row.name), "" if row.deleted_at else reverse("console:dataset", args=[row.pk])
        )
        for row in Dataset.objects.filter(pk__in=_ids(values))
    }


def _read_generations(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    return {
        str(row.pk): Thing(_short(row.prompt), reverse("console:generation", args=[row.pk]))
        for row in _told_generations().filter(pk__in=_ids(values))
    }


def _told_generations() -> QuerySet[Generation]:
    """Without those whose words the policy refused."""
    return Generation.objects.exclude(state=Generation.State.BLOCKED).filter(dataset__deleted_at=None)


def _read_spaces(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    return {
        space: Thing(_short(name), reverse("console:model", args=[address]))
        for space, (address, name) in names_of_spaces(values).items()
    }


def _find_spaces(text: str) -> list[str]:
    own = LearntModel.objects.filter(name__icontains=text).order_by("-id")[:MOST_NAMED]
    return [*(one.space for one in builtin_spaces() if text in one.slug), *(row.space for row in own)]


def _read_classifiers(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    rows = ClassifierVersion.objects.select_related("classifier").defer("head").filter(pk__in=_ids(values))
    return {
        str(row.pk): Thing(row.classifier.name, reverse("console:classifier", args=[row.classifier_id]))
        for row in rows
    }


def _read_versions(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    rows = PolicyVersion.objects.select_related("policy").defer("document").filter(pk__in=_ids(values))
    return {
        str(row.pk): Thing(_short(row.policy.name), reverse("console:policy", args=[row.policy_id]))
        for row in rows
    }


def _rows_with_page(model: type[Model], page: str) -> Callable[[set[str], Collection[str]], dict[str, Thing]]:
    """Of rows with a name and a page of their own."""

    def read(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
        rows = model._default_manager.filter(pk__in=_ids(values)).values_list("pk", "name")
        return {str(pk): Thing(_short(name), reverse(page, args=[pk])) for pk, name in rows}

    return read


def _read_maps(values: set[str], _scopes: Collection[str]) -> dict[str, Thing]:
    rows = EmbeddingMap.objects.filter(pk__in=_ids(values)).values_list("pk", "name")
    return {str(pk): Thing(_short(name), f"{reverse('console:map')}?map={pk}") for pk, name in rows}


def _named(model: type[Model], column: str = "name") -> Callable[[str], list[str]]:
    return lambda text: _texts(model._default_manager.filter(**{f"{column}__icontains": text}))


SOURCES: dict[str, Source] = {
    "asset": Source(
        READ, gettext_lazy("Open the asset"), _read_assets, lambda text: _texts(_assets_named(text))
    ),
    "audit": Source(READ, gettext_lazy("Open the asset"), _read_audits, _find_audits),
    "import": Source(READ, gettext_lazy("Open the import"), _read_imports, _find_imports),
    "dataset": Source(READ, gettext_lazy("Open the dataset"), _read_datasets, _named(Dataset)),
    "dataset version": Source(
        READ, gettext_lazy("Open the version"), _read_dataset_versions, _named(DatasetVersion)
    ),
    "generation": Source(
        READ,
        gettext_lazy("Open the generation"),
        _read_generations,
        lambda text: _texts(_told_generations().filter(prompt__icontains=text)),
    ),
    "model": Source(
        READ,
        gettext_lazy("Open the model"),
        _rows_with_page(LearntModel, "console:model"),
        _named(LearntModel),
    ),
    "space": Source(READ, gettext_lazy("Open the model"), _read_spaces, _find_spaces),
    "map": Source(READ, gettext_lazy("Open the map"), _read_maps, _named(EmbeddingMap)),
    "classifier": Source(
        READ,
        gettext_lazy("Open the classifier"),
        _read_classifiers,
        _named(ClassifierVersion, "classifier__name"),
    ),
    "policy version": Source(
        MODERATE, gettext_lazy("Open the policy"), _read_versions, _named(PolicyVersion, "policy__name")
    ),
    "policy": Source(
        MODERATE, gettext_lazy("Open the policy"), _rows_with_page(Policy, "console:policy"), _named(Policy)
    ),
}
