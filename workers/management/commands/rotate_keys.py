"""`manage.py rotate_keys master | tenant SLUG | installation | all | secret-key`, while the stack runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from tenants.accounts import installation_secrets, key_rotation, master_keys
from tenants.accounts.key_rotation import Progress
from tenants.accounts.models import DataKey, Tenant
from tenants.accounts.operators import Operator, record_act
from tenants.errors import ServiceError
from tenants.pipeline.care.file_encryption import Encrypted, any_encrypted, encrypt_files
from tenants.pipeline.care.resealing import every_owner, reseal

WHAT = ("master", "tenant", "installation", "all", "secret-key")


class Command(BaseCommand):
    help = (
        "Change keys while the stack runs (docs/encryption.md): the master key, the data key of a tenant, of the "
        "installation or of all, or what was sealed under SECRET_KEY. A killed run is taken up by the next one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("what", choices=WHAT)
        parser.add_argument("slug", nargs="?", default="", help="of the tenant")
        parser.add_argument(
            "--dry-run", action="store_true", help="count what would be done, and change nothing"
        )
        parser.add_argument(
            "--rewrap",
            action="store_true",
            help="of master: under the first key that is there; add none to the file",
        )
        parser.add_argument(
            "--drop-former", action="store_true", help="of master: then remove former keys from the file"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            match options["what"]:
                case "master":
                    self._master(options)
                case "secret-key":
                    self._secret_key(options["dry_run"])
                case what:
                    for owner in self._owners(what, options["slug"]):
                        self._data_key(owner, options["dry_run"])
        except (ServiceError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def _owners(self, what: str, slug: str) -> list[UUID | None]:
        if what == "all":
            return every_owner()
        if what == "installation":
            return [None]
        found = list(Tenant.objects.filter(slug=slug).values_list("pk", flat=True))
        if not found:
            raise CommandError(f"There is no tenant {slug!r}.")
        return [*found]

    # --- The master key ---

    def _master(self, options: dict[str, Any]) -> None:
        dry_run = options["dry_run"]
        begun = key_rotation.wrapped_elsewhere(master_keys.primary().id).exists()
        if not (dry_run or begun or options["rewrap"] or settings.KMS_URL):
            added = key_rotation.add_master_key()
            self.stdout.write(f"new master key {added.id}, first in {settings.MASTER_KEY_FILE}")
        done = key_rotation.rewrap(self.stdout.write, dry_run=dry_run)
        if dry_run:
            self.stdout.write(
                f"{done.left} of {done.total} data keys would be wrapped anew, or all under a new master key"
            )
            return
        self._wrapped(done)
        if options["drop_former"]:
            self.stdout.write(f"{key_rotation.drop_former_master_keys()} former master keys removed")
        self._note("master", wrapped=done.done)

    # --- Data keys ---

    def _data_key(self, owner: UUID | None, dry_run: bool) -> None:
        label = str(owner or "installation")
        before = reseal(owner, dry_run=True)
        files = self._files(owner, dry_run=True)
        if dry_run:
            self.stdout.write(
                f"{label}: a new version; {before.seen} sealed values and {files.seen} files written anew"
            )
            return
        if before.left or files.done:
            self.stdout.write(
                f"{label}: going on with {before.left} values and {files.done} files under a former key"
            )
        else:
            version = DataKey.objects.get(pk=key_rotation.new_version(owner)).version
            self.stdout.write(f"{label}: version {version}")
        self._reseal(owner, label)
        done = self._files(owner, dry_run=False)
        if done.damaged:
            self.stderr.write(
                f"{label}: {done.damaged} files are damaged and stay as they are: {done.example} …"
            )
        if done.seen:
            left = self._files(owner, dry_run=True)
            self._verified(f"{label}: {done.done} of {done.seen} files written anew", left.done)

    def _files(self, owner: UUID | None, *, dry_run: bool) -> Encrypted:
        """Nothing where no file is encrypted."""
        if owner is None or not (settings.ENCRYPT_FILES or any_encrypted(owner)):
            return Encrypted()
        return encrypt_files(
            owner, lambda line: None if dry_run else self.stdout.write(line), dry_run=dry_run
        )

    def _reseal(self, owner: UUID | None, label: str) -> None:
        done = reseal(owner)
        self._verified(
            f"{label}: {done.done} of {done.seen} values sealed anew", reseal(owner, dry_run=True).left
        )
        if done.unreadable:
            self.stderr.write(f"{label}: {done.unreadable} values were sealed under a key that is not here")
        self._note("data key", target=label, values=done.done)

    # --- SECRET_KEY ---

    def _secret_key(self, dry_run: bool) -> None:
        """What a former release sealed under it, and data keys of which it is the master key."""
        if dry_run:
            counts = [reseal(owner, dry_run=True) for owner in every_owner()]
            self.stdout.write(f"{sum(one.left for one in counts)} values would be sealed anew")
            return
        installation_secrets.lasting_secret()
        done = key_rotation.rewrap(self.stdout.write)
        self._wrapped(done)
        for owner in every_owner():
            self._reseal(owner, str(owner or "installation"))
        self.stdout.write(
            "Nothing is sealed under a former SECRET_KEY. Take SECRET_KEY_FALLBACKS out when the links and sessions "
            "that were signed with them have run out: two weeks."
        )

    # --- Saying so ---

    def _wrapped(self, done: Progress) -> None:
        if done.unreadable:
            raise CommandError(
                f"{done.done} of {done.total} data keys wrapped anew; {done.unreadable} were wrapped under a master "
                "key that is not here, and stay as they are."
            )
        self._verified(f"{done.done} of {done.total} data keys wrapped anew", done.left)

    def _verified(self, done: str, left: int) -> None:
        if left:
            raise CommandError(f"{done}; {left} are left under a former key: run it again.")
        self.stdout.write(f"{done}; none is left under a former key")

    def _note(self, what: str, *, target: str = "", **details: int) -> None:
        by = Operator("manage.py rotate_keys")
        record_act(by=by, verb="keys.rotated", target=target, details={"what": what, **details})
