"""The kinds of background work. Each is declared once, by `@job` beside its body, and is known here from then on.

`workers` imports every module of `tenants` when a process starts, so each process knows all kinds.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from tenants.jobs.stopping import Key

if TYPE_CHECKING:
    from django.utils.functional import Promise

    from tenants.jobs.models import Job

# What workers may be told to take from. The processes that do are in `standalone.programs`.
QUEUES = (
    "embed",
    "media",
    "import",
    "live",
    "default",
    "index",
    "audit",
    "train",
    "generate",
    "hooks",
    "system",
)


@dataclass(frozen=True)
class Claim:
    """A job that this worker holds: what a body is called with. Whoever claims it later has a higher fence."""

    job_id: uuid.UUID
    tenant_id: uuid.UUID
    kind: str
    arguments: dict[str, Any]
    fence: int
    attempt: int
    trace: str = ""
    requested_by: str = ""

    @property
    def key(self) -> Key:
        return self.job_id, self.fence


Body = Callable[[Claim], None]
OnEnd = Callable[["Job"], None]
# A body that others call, too, may take more than the claim.
B = TypeVar("B", bound=Body)
P = ParamSpec("P")


@dataclass(frozen=True)
class Kind:
    """A kind of job. Its row and its Celery task, `workers.<name>`, carry the name: an installation that is upgraded
    has both, so a name is never given up without a line in `retired`."""

    # Does the work, and ends the job (`services.succeed`) in the transaction that stores what came of it.
    body: Body
    name: str
    queue: str
    # For people, in a list of jobs.
    label: str | Promise
    max_attempts: int = 3
    cancellable: bool = True
    # Called in the transaction that ends a job without success or queues it again: what the job works on must show
    # the same state.
    on_end: OnEnd | None = None
    # Goes on where the job that queued it is cancelled: what is stored is audited, whoever stored it.
    outlives_parent: bool = False
    # Never archived: its row is read for as long as what it made is shown.
    kept: bool = False
    # Goes on while the tenant is suspended: what was promised is done all the same.
    while_suspended: bool = False
    # `arguments.asset` names an asset, and is erased with it.
    names_asset: bool = False
    # Left in databases by an earlier release; none is queued any more.
    retired: bool = False

    @property
    def task(self) -> str:
        return f"workers.{self.name}"


KINDS: dict[str, Kind] = {}


def name_of(kind: str) -> str:
    """What a kind is called for people; one of another release has no label here."""
    return str(KINDS[kind].label) if kind in KINDS else kind.replace("_", " ").capitalize()


# Called in the transaction that ends a job, whatever its kind and however it ends.
ON_EVERY_END: list[OnEnd] = []


def _declaring(make: Callable[Concatenate[Body, P], Kind]) -> Callable[P, Callable[[B], B]]:
    def job(*named: P.args, **options: P.kwargs) -> Callable[[B], B]:
        def declare(body: B) -> B:
            kind = make(body, *named, **options)
            if kind.queue not in QUEUES:
                raise ValueError(f"there is no queue {kind.queue}")
            if kind.name in KINDS:
                raise ValueError(
                    f"there is a kind {kind.name} already, in {KINDS[kind.name].body.__module__}"
                )
            KINDS[kind.name] = kind
            return body

        return declare

    return job


# `@job("embed_asset", queue="embed", label=…, …)` declares a kind of job whose body the decorated function is; the
# arguments are the fields of `Kind`. A body may serve several kinds. Raises ValueError for a queue that no worker takes
# from and for a second kind of the same name.
job = _declaring(Kind)


def on_every_end(function: OnEnd) -> OnEnd:
    """Have `function(job)` called in the transaction that ends a job, whatever its kind and however it ends."""
    ON_EVERY_END.append(function)
    return function


def kind_names(wanted: Callable[[Kind], bool]) -> list[str]:
    """Names of the kinds for which `wanted` is true, in order."""
    return sorted(name for name, kind in KINDS.items() if wanted(kind))
