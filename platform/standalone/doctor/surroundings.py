"""What an installation should have around it: a scanner, a mail server, recent backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import get_connection
from django.db import connection
from django.utils import timezone

from standalone.backup.create import LAST
from standalone.doctor.findings import Check, Finding, Options, fail, ok, warn
from standalone.files import read_json
from tenants.accounts.models import Plan
from tenants.accounts.services import PLANS
from tenants.datasets import scanning
from tenants.moderation.record import anchors

STALE = timedelta(days=2)
UNANCHORED = timedelta(hours=1)


def scanner(options: Options) -> Finding:
    said = scanning.status()
    if said["state"] == "on":
        return ok(said["engine"])
    if said["state"] == "off":
        return warn("uploads are not scanned for malware", "Run a clamd and set CLAMD_URL=tcp://host:3310.")
    consequence = "and uploads are refused" if settings.SCAN_REQUIRED else "and uploads are kept unscanned"
    return fail(
        f"clamd does not answer at {settings.CLAMD_URL}, {consequence}", "Start clamd, or correct CLAMD_URL."
    )


def mail(options: Options) -> Finding:
    if not settings.EMAIL_HOST:
        return warn(
            "no mail server: invitations and reset links are shown to those who may hand them out",
            "Set EMAIL_URL=smtp+tls://user:password@host if people should get them by e-mail.",
        )
    with get_connection("django.core.mail.backends.smtp.EmailBackend", timeout=5):
        return ok(f"{settings.EMAIL_HOST}:{settings.EMAIL_PORT}")


def self_service(options: Options) -> Finding:
    """Without e-mail the settings themselves refuse it; here is what makes it of no use, or open to abuse."""
    rules = settings.SELF_SERVICE
    if not rules.parts:
        return ok("off: people are invited, and workspaces opened by operators (SELF_SERVICE)")
    said = f"{', '.join(sorted(rules.parts))}"
    if not rules.has("sign-up"):
        return ok(said)
    plan = Plan.objects.filter(slug=rules.plan).first()
    if plan is None and rules.plan not in PLANS:
        return fail(
            f"there is no plan {rules.plan!r}: nobody can sign up",
            "Make it under /operator/plans, or correct SIGN_UP_PLAN.",
        )
    days = PLANS[rules.plan].get("trial_days") if plan is None else plan.trial_days
    wrong = {
        "the plan of who signs up has no end": (days is None, "Give it days, if it is to be a trial."),
        "BASE_URL is no https address": (
            not settings.BASE_URL.startswith("https://"),
            "Set BASE_URL: links in letters begin with it.",
        ),
        "letters come from localhost": (
            settings.DEFAULT_FROM_EMAIL.endswith("@localhost"),
            "Set EMAIL_FROM to an address of yours.",
        ),
        "no list of disposable domains": (
            not (rules.disposable_domains or rules.allowed_domains),
            "Set SIGN_UP_DISPOSABLE_DOMAINS_FILE, or SIGN_UP_ALLOWED_DOMAINS.",
        ),
    }
    found = {what: advice for what, (is_so, advice) in wrong.items() if is_so}
    if found:
        return warn(f"{said}: {'; '.join(found)}", " ".join(found.values()))
    return ok(f"{said}; plan {rules.plan}, {days} days, at most {rules.trials_a_day} workspaces a day")


def backups(options: Options) -> Finding:
    last = read_json(settings.DATA_DIR / LAST)
    if last is None:
        return warn("there is no backup", "Run `make backup`, and let cron run it every night.")
    made, path = datetime.fromisoformat(last["created_at"]), Path(last["path"])
    age = datetime.now(UTC) - made
    if not path.exists():
        return fail(
            f"the last backup ({path}) is gone", "Run `make backup`, unless it was moved to a safe place."
        )
    if age > STALE:
        return warn(
            f"the last backup is {age.days} days old ({path})", "Run `make backup`; see why cron did not."
        )
    if last["missing"]:
        return warn(
            f"{last['missing']} files were missing when it was made ({path})", "See the check `blobs`."
        )
    if not last.get("encrypted"):
        return warn(
            f"the last backup is not encrypted ({path}): whoever can read it has all that is in here",
            "Make a pair of keys with `python -m standalone backup-identity FILE`, keep that file elsewhere, and set "
            "BACKUP_RECIPIENTS to the public key that it prints (docs/encryption.md).",
        )
    if not last.get("signed"):
        return warn(
            f"the last backup is not signed ({path}), and only restored with UNSIGNED=1",
            "`make backup` said why; `manage.py record_key` tells whether the key can be read.",
        )
    return ok(f"{path}, {age.total_seconds() / 3600:.0f} h old, encrypted and signed")


def archiver() -> tuple[Any, ...]:
    """Of Postgres: the last segment that could not be archived and when, the last that could and when."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT last_failed_wal, last_failed_time, last_archived_wal, last_archived_time FROM pg_stat_archiver"
        )
        return tuple(cursor.fetchone())


def wal_archive(options: Options) -> Finding:
    if not settings.WAL_ARCHIVE:
        return warn(
            "no archive of the database's log: a restore goes back to the last backup",
            "Set WAL_ARCHIVE (docs/operating.md, Recovery to a point in time), unless others archive the database.",
        )
    failed, failed_at, archived, archived_at = archiver()
    if failed_at and (archived_at is None or archived_at < failed_at):
        return fail(
            f"{settings.WAL_ARCHIVE} does not take {failed}, since {failed_at:%Y-%m-%d %H:%M} UTC or before",
            "log/postgres.log says why. Until it does, the log is kept beside the database and fills that disk.",
        )
    if archived_at is None:
        return ok(f"{settings.WAL_ARCHIVE}, nothing to archive yet")
    return ok(f"{settings.WAL_ARCHIVE}: {archived} at {archived_at:%Y-%m-%d %H:%M} UTC")


def record_anchors(options: Options) -> Finding:
    states = anchors.states()
    if not states:
        return warn(
            "records are kept nowhere outside: whoever has the database and the keys can rewrite them",
            "Set RECORD_BUCKET or RECORD_TSA_URL (docs/auditing/record.md).",
        )
    late = [s for s in states if s.waiting_since and timezone.now() - s.waiting_since > UNANCHORED]
    if late:
        return fail(
            "; ".join(
                f"{s.waiting} checkpoints wait for {s.place} since {s.waiting_since:%Y-%m-%d %H:%M}: {s.error}"
                for s in late
            ),
            "Is the place there, and are its address and credentials right? They are sent again by themselves.",
        )
    return ok(", ".join(f"{s.place}: checkpoint {s.newest}" for s in states))


CHECKS = (
    Check("malware-scan", scanner),
    Check("mail", mail, advice="Is EMAIL_URL right, and does the server take these credentials?"),
    Check("self-service", self_service, needs="migrations"),
    Check("backups", backups),
    Check("wal-archive", wal_archive, needs="database"),
    Check("record-anchors", record_anchors, needs="migrations"),
)
