"""Secrets as files, as orchestrators mount them: `SECRET_KEY_FILE=/run/secrets/secret_key` in place of `SECRET_KEY`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

SECRETS = (
    *("SECRET_KEY", "SECRET_KEY_FALLBACKS", "METRICS_TOKEN", "EMAIL_URL"),
    *("DATABASE_URL", "OPERATOR_DATABASE_URL", "MIGRATION_DATABASE_URL", "REDIS_URL", "BROKER_URL"),
    "RECORD_BUCKET_SECRET_KEY",
)


def read_secret_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The secrets whose files are named, without the blanks around them.

    Raises ImproperlyConfigured for a file that cannot be read or is empty, and where a secret is set beside its file.
    """
    named = {name: environ[f"{name}_FILE"] for name in SECRETS if environ.get(f"{name}_FILE")}
    if twice := [name for name in named if environ.get(name)]:
        raise ImproperlyConfigured(f"Set {twice[0]} or {twice[0]}_FILE, not both.")
    return {name: _read(name, path) for name, path in named.items()}


def _read(name: str, path: str) -> str:
    try:
        text = Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ImproperlyConfigured(f"{name}_FILE: {path} cannot be read: {error}") from error
    if not text:
        raise ImproperlyConfigured(f"{name}_FILE: {path} is empty.")
    return text
