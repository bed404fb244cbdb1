"""Kinds of earlier releases, whose rows lie in databases that are upgraded: what waits ends well and says why nothing
was done."""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy

from tenants.jobs import services as jobs
from tenants.jobs.kinds import KINDS, Body, job


@dataclass(frozen=True)
class Retired:
    name: str
    queue: str
    label: str | Promise
    # The result says so, in English as every result does.
    note: str


RETIRED = (
    Retired(
        "move_index",
        queue="index",
        label=gettext_lazy("Move the index"),
        note="Indexes are not moved between engines any more; the built-in index answers.",
    ),
)


def declare() -> None:
    """Declare them, once all kinds that are still worked on are known."""
    for kind in RETIRED:
        if kind.name not in KINDS:
            job(kind.name, queue=kind.queue, label=kind.label, retired=True)(_ending_with(kind.note))


def _ending_with(note: str) -> Body:
    def end(claimed: jobs.Claim) -> None:
        jobs.succeed(claimed, result={"note": note}, cpu_s=0, gpu_s=0, used={})

    return end
