"""What people and keys are called, by the words in which rows name who acted."""

from __future__ import annotations

from collections.abc import Iterable

from django.utils.translation import gettext as _

from console.paging import parse_id
from tenants.accounts.models import ApiKey, User

KEY = "key:"


def names_of(actors: Iterable[str]) -> dict[str, str]:
    """Names by actor. Who was erased keeps the pseudonym, so is absent."""
    wanted = set(actors)
    ids = {found: actor for actor in wanted if (found := parse_id(actor))}
    people = {ids[user.pk]: user.name or user.email for user in User.objects.filter(pk__in=ids)}
    prefixes = [actor.removeprefix(KEY) for actor in wanted if actor.startswith(KEY)]
    keys = ApiKey.objects.filter(prefix__in=prefixes)
    return {**people, **{f"{KEY}{key.prefix}": _("Key “%(name)s”") % {"name": key.name} for key in keys}}
