"""What can be said without asking any server: Python, settings, the front end."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from urllib.parse import urlparse

from django.conf import settings
from django.http.request import validate_host

from standalone import frontend
from standalone.doctor.findings import Check, Finding, Options, fail, ok, warn

PYTHONS = ((3, 11), (3, 14))
MIN_KEY, MIN_DIFFERENT = 32, 8


def python(options: Options) -> Finding:
    version = sys.version.split()[0]
    if PYTHONS[0] <= sys.version_info[:2] < PYTHONS[1]:
        return ok(version)
    return fail(f"Python {version}", "Use Python 3.11, 3.12 or 3.13: `make PYTHON=python3.11`.")


def secret_key(options: Options) -> Finding:
    key = settings.SECRET_KEY
    if len(key) >= MIN_KEY and len(set(key)) >= MIN_DIFFERENT and not key.startswith("django-insecure"):
        return ok(f"{len(key)} characters")
    return fail(
        f"SECRET_KEY can be guessed ({len(key)} characters): sessions and reset links can be forged",
        "Unset it (a good one is kept in secrets.json), or take "
        "`python -c 'import secrets; print(secrets.token_urlsafe(48))'`. A new key ends all sessions and makes "
        "second factors and stored bucket credentials unreadable.",
    )


def debug(options: Options) -> Finding:
    if not settings.DEBUG:
        return ok("off")
    advice = "Unset DEBUG: error pages show settings and source to whoever causes an error."
    return (
        warn("DEBUG is on", advice) if _is_local() else fail("DEBUG is on where others can reach it", advice)
    )


def hosts(options: Options) -> Finding:
    host = urlparse(settings.BASE_URL).hostname or ""
    if "*" in settings.ALLOWED_HOSTS:
        return warn(
            "ALLOWED_HOSTS allows every name", "List the names by which people reach this installation."
        )
    wildcards = {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
    if host in wildcards:
        advice = "Set BASE_URL to the address that people use, and its name in ALLOWED_HOSTS."
        return warn(f"BASE_URL is {settings.BASE_URL}, which nobody can open", advice)
    if validate_host(f"[{host}]" if ":" in host else host, settings.ALLOWED_HOSTS):
        return ok(", ".join(settings.ALLOWED_HOSTS))
    return fail(
        f"requests to {host} (BASE_URL) are refused: ALLOWED_HOSTS is {', '.join(settings.ALLOWED_HOSTS)}",
        f"Add {host} to ALLOWED_HOSTS, or correct BASE_URL.",
    )


def https(options: Options) -> Finding:
    if settings.SECURE_SSL_REDIRECT and not settings.TRUSTED_PROXIES:
        return warn(
            "SECURE_SSL_REDIRECT is on and no proxy is trusted to say that a request came by https: behind one, "
            "people are redirected for ever",
            "Set TRUSTED_PROXIES to the addresses from which the proxies connect, such as 127.0.0.1.",
        )
    if settings.BASE_URL.startswith("https://"):
        return ok("session cookies travel over https only")
    if _is_local():
        return ok("http, reachable from this machine only")
    return warn(
        f"people sign in over http ({settings.BASE_URL}): passwords and sessions can be read on the way",
        "Put a proxy with TLS in front and set BASE_URL=https://….",
    )


def _is_local() -> bool:
    names = {settings.HOST, urlparse(settings.BASE_URL).hostname or ""}
    return all(name == "localhost" or _is_loopback(name) for name in names)


def _is_loopback(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def front_end(options: Options) -> Finding:
    command = f"DATA_DIR={settings.DATA_DIR} python -m standalone prepare, then manage.py collectstatic"
    if not any(frontend.OUTPUT.glob("*.js")):
        return fail(
            f"the front end is not built ({frontend.OUTPUT})", f"`make run` builds it, or: {command}."
        )
    if not (settings.STATIC_ROOT / "staticfiles.json").exists():
        return fail(
            f"static files are not collected ({settings.STATIC_ROOT})", "Run `manage.py collectstatic`."
        )
    if frontend.SOURCES.is_dir() and frontend.STAMP.exists() and _is_stale():
        return warn("the front end was built from other sources than these", f"Restart, or: {command}.")
    return ok("built and collected")


def _is_stale() -> bool:
    return frontend.STAMP.read_text() != frontend.fingerprint(frontend.SOURCES)


CHECKS = (
    Check("python", python),
    Check("secret-key", secret_key),
    Check("debug", debug),
    Check("allowed-hosts", hosts),
    Check("https", https),
    Check("front-end", front_end),
)
