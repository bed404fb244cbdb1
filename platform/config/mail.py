"""Where e-mail is handed in: from one address, as twelve-factor deployments give it, or from Django's names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote, urlparse

from django.core.exceptions import ImproperlyConfigured

# Scheme -> default port, STARTTLS, TLS from the start.
SCHEMES = {
    "smtp": (25, False, False),
    "smtp+tls": (587, True, False),
    "smtps": (465, False, True),
}


@dataclass(frozen=True)
class MailServer:
    """An empty `host` means that there is none."""

    host: str = ""
    port: int = 25
    user: str = ""
    password: str = ""
    starttls: bool = False
    tls: bool = False


def mail_server(env: Callable[[str, str], str]) -> MailServer:
    """From EMAIL_URL, else EMAIL_HOST and its companions. Raises ImproperlyConfigured."""
    if url := env("EMAIL_URL", ""):
        return _from_url(url)
    starttls, tls = (env(name, "0").lower() in {"1", "true"} for name in ("EMAIL_USE_TLS", "EMAIL_USE_SSL"))
    user, password = env("EMAIL_HOST_USER", ""), env("EMAIL_HOST_PASSWORD", "")
    return MailServer(env("EMAIL_HOST", ""), int(env("EMAIL_PORT", "25")), user, password, starttls, tls)


def _from_url(url: str) -> MailServer:
    parts = urlparse(url)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ImproperlyConfigured(f"EMAIL_URL starts with {', '.join(SCHEMES)} and names a host.")
    port, starttls, tls = SCHEMES[parts.scheme]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return MailServer(parts.hostname, parts.port or port, user, password, starttls, tls)
