"""What an installation should have around it: a scanner, a mail server, recent backups."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.core.mail import get_connection

from standalone.backup.create import LAST
from standalone.doctor.findings import Check, Finding, Options, fail, ok, warn
from standalone.files import read_json
from tenants.datasets import scanning

STALE = timedelta(days=2)


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
    return ok(f"{path}, {age.total_seconds() / 3600:.0f} h old")


CHECKS = (
    Check("malware-scan", scanner),
    Check("mail", mail, advice="Is EMAIL_URL right, and does the server take these credentials?"),
    Check("backups", backups),
)
