"""`manage.py record_key [--rotate]`: the public keys with which seals and checkpoints are signed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from tenants.moderation.record import signatures


class Command(BaseCommand):
    help = (
        "Print the public keys of the record, the one that signs now first; --rotate makes a new one before."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rotate", action="store_true", help="sign by a new key from now on")

    def handle(self, *args: Any, **options: Any) -> None:
        ring = signatures.rotate() if options["rotate"] else signatures.key_ring()
        for key in ring.public:
            until = f"until {key.until.isoformat()}" if key.until else "signs now"
            self.stdout.write(f"{key.id}  since {key.since.isoformat()}, {until}\n{key.pem}")
