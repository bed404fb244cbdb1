"""`manage.py data_processing`: docs/data-processing.md, made from the table of what is kept."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from tenants.pipeline.care import data_inventory


class Command(BaseCommand):
    help = "Print the page about data processing, as it stands in docs/data-processing.md."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(data_inventory.markdown(), ending="")
