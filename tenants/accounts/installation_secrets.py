"""Secrets that all hosts of an installation share, as rows; private ones are sealed under a data key."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext as _

from tenants.accounts import keyring, vault
from tenants.accounts.models import InstallationSecret
from tenants.errors import Unavailable

LASTING = "lasting.key"


class SecretSealed(Unavailable):
    """A secret was sealed under a key that is not here; no new one is made in its place."""

    slug = "secret-sealed"


def content_of(row: InstallationSecret) -> bytes:
    """Raises InvalidToken; KeysUnavailable where the KMS is away."""
    content = bytes(row.content)
    if not row.key_id:
        return content
    return vault.unseal(content, purpose=row.pk.encode(), owner=row.tenant_id)


def write(name: str, content: bytes, *, tenant_id: UUID | None, private: bool) -> None:
    kept, key_id = content, ""
    if private:
        kept = vault.seal(content, purpose=name.encode(), owner=tenant_id)
        key_id = short_id(kept)
    InstallationSecret.objects.update_or_create(
        pk=name, defaults={"content": kept, "key_id": key_id, "tenant_id": tenant_id}
    )


def short_id(sealed: bytes) -> str:
    """Which data key this was sealed under, in 16 hex digits."""
    key_id = keyring.sealed_under(sealed)
    return key_id.hex[-16:] if key_id else ""


def lasting_secret() -> bytes:
    """A secret that does not change with SECRET_KEY: of digests and marks that cannot be made anew.

    It is SECRET_KEY as it was when it was first asked for, so that what a former release made with that stays valid.
    Raises SecretSealed; KeysUnavailable where the KMS is away.
    """
    row = InstallationSecret.objects.filter(pk=LASTING).first() or _keep_lasting()
    try:
        return content_of(row)
    except vault.InvalidToken as error:
        raise SecretSealed(
            _("A secret of this installation was sealed under a key that is not here (docs/encryption.md).")
        ) from error


def _keep_lasting() -> InstallationSecret:
    first = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS][-1]
    sealed = vault.seal(first.encode(), purpose=LASTING.encode(), owner=None)
    kept = {"content": sealed, "key_id": short_id(sealed)}
    return InstallationSecret.objects.get_or_create(pk=LASTING, defaults=kept)[0]
