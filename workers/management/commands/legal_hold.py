"""`manage.py legal_hold SLUG [--reason …] [--release ID]`: holds that the operator sets, lists and releases."""

from __future__ import annotations

import uuid
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.datasets import holds
from tenants.datasets.models import Dataset, LegalHold
from tenants.errors import ServiceError
from tenants.scope import tenant_scope
from workers.management.job_progress import tenant_of

ACTOR = "operator"


class Command(BaseCommand):
    help = (
        "List the legal holds of a tenant; set one with --reason, over the tenant or --dataset; release one, also "
        "an owner's, with --release. What an operator sets only an operator releases."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--reason", default="", help="set a hold, for this reason")
        parser.add_argument("--reference", default="", help="a case number or the like")
        parser.add_argument("--dataset", default="", metavar="NAME", help="of this dataset alone")
        parser.add_argument("--release", type=uuid.UUID, metavar="ID", help="of the hold that ends")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = tenant_of(options["slug"])
        if options["release"] and options["reason"]:
            raise CommandError("Say either --reason, which sets a hold, or --release.")
        try:
            with tenant_scope(tenant.id):
                if options["release"]:
                    holds.release_hold(hold_id=options["release"], actor=ACTOR, by_operator=True)
                elif options["reason"]:
                    self._set(options)
                for hold in holds.list_holds():
                    self.stdout.write(_line(hold))
        except ServiceError as error:
            raise CommandError(error.detail) from error

    def _set(self, options: dict[str, Any]) -> None:
        holds.set_hold(
            reason=options["reason"],
            reference=options["reference"],
            dataset_id=_dataset(options["dataset"]),
            actor=ACTOR,
            by_operator=True,
        )


def _dataset(name: str) -> uuid.UUID | None:
    if not name:
        return None
    found = Dataset.objects.filter(name=name, deleted_at=None).first()
    if found is None:
        raise CommandError(f"There is no dataset {name!r}.")
    return found.pk


def _line(hold: LegalHold) -> str:
    over = f"dataset {hold.dataset_id}" if hold.dataset_id else "everything"
    ended = f"released {hold.released_at:%Y-%m-%d} by {hold.released_by}" if hold.released_at else "stands"
    return f"{hold.id}  {over}  {ended}  since {hold.created_at:%Y-%m-%d} by {hold.set_by}: {hold.reason}"
