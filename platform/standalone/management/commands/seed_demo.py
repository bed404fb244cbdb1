"""`manage.py seed_demo`: the demo tenants, through the same services that users reach. Safe to repeat."""

from __future__ import annotations

from django.core.management.base import BaseCommand

from standalone import demo


class Command(BaseCommand):
    help = "Make the demo tenants and write their secrets to $DATA_DIR/demo.json."

    def handle(self, *args: object, **options: object) -> None:
        demo.seed(tell=self.stdout.write)
