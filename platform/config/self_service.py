"""What people may do by themselves on this installation, and its bounds: read from the environment, checked at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

SIGN_UP, REQUESTS, CLOSING = "sign-up", "requests", "closing"
PARTS = (SIGN_UP, REQUESTS, CLOSING)


@dataclass(frozen=True)
class SelfService:
    """`parts` that are on; empty: all of it is off, and its pages answer 404.

    Domains are in small letters and without a dot in front; a rule for one holds for those below it. Bounds on trials
    count those that were opened within 24 hours, but for that of an address, which counts a year.
    """

    parts: frozenset[str] = frozenset()
    plan: str = "trial"
    link_hours: int = 24
    trials_a_day: int = 100
    trials_of_domain_a_day: int = 20
    trials_of_address: int = 1
    allowed_domains: frozenset[str] = frozenset()
    blocked_domains: frozenset[str] = frozenset()
    disposable_domains: frozenset[str] = frozenset()
    terms_url: str = ""
    privacy_url: str = ""
    closing_days: int = 7

    def has(self, part: str) -> bool:
        return part in self.parts


def read_self_service(env: Callable[[str, str], str], *, mail: bool) -> SelfService:
    """`mail`: whether e-mail can be sent. Raises ImproperlyConfigured."""
    parts = _parts(env("SELF_SERVICE", ""))
    if parts and not mail:
        raise ImproperlyConfigured(
            "SELF_SERVICE needs e-mail, as links and notices go by it: set EMAIL_URL, or take SELF_SERVICE away."
        )
    return SelfService(
        parts=parts,
        plan=env("SIGN_UP_PLAN", "trial"),
        link_hours=_whole(env, "SIGN_UP_LINK_HOURS", 24, 1, 7 * 24),
        trials_a_day=_whole(env, "SIGN_UP_TRIALS_A_DAY", 100, 0, 1_000_000),
        trials_of_domain_a_day=_whole(env, "SIGN_UP_TRIALS_OF_DOMAIN_A_DAY", 20, 0, 1_000_000),
        trials_of_address=_whole(env, "SIGN_UP_TRIALS_OF_ADDRESS", 1, 1, 1000),
        allowed_domains=_domains(env("SIGN_UP_ALLOWED_DOMAINS", "").split(",")),
        blocked_domains=_domains(env("SIGN_UP_BLOCKED_DOMAINS", "").split(",")),
        disposable_domains=_from_file(env("SIGN_UP_DISPOSABLE_DOMAINS_FILE", "")),
        terms_url=_link(env, "TERMS_URL"),
        privacy_url=_link(env, "PRIVACY_URL"),
        closing_days=_whole(env, "CLOSING_DAYS", 7, 1, 90),
    )


def _parts(value: str) -> frozenset[str]:
    value = value.strip().lower()
    if value in ("", "0", "false", "no", "off"):
        return frozenset()
    if value in ("1", "true", "yes", "on", "all"):
        return frozenset(PARTS)
    named = frozenset(part.strip() for part in value.split(",") if part.strip())
    if unknown := sorted(named - set(PARTS)):
        raise ImproperlyConfigured(
            f"SELF_SERVICE is 0, 1, or some of {', '.join(PARTS)}; not {', '.join(unknown)}."
        )
    return named


def _whole(env: Callable[[str, str], str], name: str, default: int, least: int, most: int) -> int:
    try:
        value = int(env(name, str(default)))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} is a whole number.") from error
    if not least <= value <= most:
        raise ImproperlyConfigured(f"{name} is {least} to {most}.")
    return value


def _link(env: Callable[[str, str], str], name: str) -> str:
    value = env(name, "")
    if value and not value.startswith(("https://", "http://")):
        raise ImproperlyConfigured(f"{name} is the address of a page, https://….")
    return value


def _domains(lines: list[str]) -> frozenset[str]:
    """Each line a domain; comments begin with #."""
    kept = (line.partition("#")[0].strip().lower().strip(".@") for line in lines)
    return frozenset(filter(None, kept))


def _from_file(path: str) -> frozenset[str]:
    if not path:
        return frozenset()
    try:
        return _domains(Path(path).read_text(encoding="utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"SIGN_UP_DISPOSABLE_DOMAINS_FILE cannot be read: {error}") from error
