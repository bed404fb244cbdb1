"""Blocking an item and its copies: its hashes go on a list, and what came before is looked through by a job."""

from __future__ import annotations

import uuid

from django.utils.translation import gettext as _

from tenants.errors import Conflict
from tenants.moderation.cases import Case


def add(*, case: Case, list_id: uuid.UUID | None, actor: str, note: str) -> uuid.UUID:
    """Put the case's asset on a hash list; the id of what was added, by which it can be taken off again."""
    # Loads the matching of hashes, which most requests never need.
    from tenants.moderation import known

    if case.asset_id is None:
        raise Conflict(_("The item is no asset any more, so that its copies cannot be found by it."))
    return known.add_asset_copies(
        asset_id=case.asset_id, list_id=list_id, note=note[: known.MAX_NOTE], actor=actor
    )


def take_off(item_id: uuid.UUID, *, actor: str) -> None:
    """Take what was added off its list again, and let its copies go that were blocked because of it."""
    from tenants.moderation import known

    known.remove_item(item_id=item_id, actor=actor, release=True)
