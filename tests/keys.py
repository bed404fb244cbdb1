"""Master keys for tests: another one than this installation's, from a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.test import override_settings

from tenants.accounts import keyring
from tenants.accounts.master_keys import new_key, written


@contextmanager
def another_master_key(folder: Path) -> Iterator[Path]:
    """In this context the process has another master key, and holds no data keys before and after it."""
    path = folder / "another.key"
    path.write_text(written((new_key(),)))
    with override_settings(MASTER_KEY_FILE=str(path)):
        keyring.forget()
        try:
            yield path
        finally:
            keyring.forget()
