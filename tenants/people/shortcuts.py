"""The single keys of the console, which each member sets for themselves or turns off.

WCAG 2.1.4: keys of one character can be turned off, and given to another character. Keys with Ctrl are no such keys and
stay as they are.
"""

from __future__ import annotations

import json
import unicodedata
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from tenants.accounts.models import Membership
from tenants.errors import Conflict, Invalid
from tenants.scope import current_tenant_id

# Where keys work: on every page, on the page of search, on a review and the queue.
EVERYWHERE, SEARCH, REVIEW = "everywhere", "search", "review"


@dataclass(frozen=True)
class Action:
    """`name` is part of what is stored. `default` is its key where the member chose none."""

    name: str
    place: str
    default: str
    label: Any


ACTIONS = (
    Action("help", EVERYWHERE, "?", gettext_lazy("These shortcuts")),
    Action("words", SEARCH, "/", gettext_lazy("To the words")),
    Action("relevant", SEARCH, "+", gettext_lazy("The result is relevant")),
    Action("irrelevant", SEARCH, "-", gettext_lazy("The result is not relevant")),
    Action("caption", SEARCH, "c", gettext_lazy("The result’s caption")),
    Action("take", REVIEW, "t", gettext_lazy("Claim it, or the next in the queue")),
    Action("allow", REVIEW, "a", gettext_lazy("Allow")),
    Action("label", REVIEW, "l", gettext_lazy("Label")),
    Action("block", REVIEW, "b", gettext_lazy("Block")),
    Action("reason", REVIEW, "r", gettext_lazy("Reason")),
    Action("look", REVIEW, "v", gettext_lazy("Look at the item")),
    Action("next", REVIEW, "n", gettext_lazy("Decide and claim the next")),
    Action("skip", REVIEW, "s", pgettext_lazy("review", "Skip")),
    Action("undo", REVIEW, "u", gettext_lazy("Undo the last decision")),
)
BY_NAME = {action.name: action for action in ACTIONS}


@dataclass(frozen=True)
class Shortcuts:
    """A member's keys: by the name of the action one character in lower case, or nothing. `on`: whether they work."""

    on: bool
    keys: Mapping[str, str]

    def key_of(self, action: str) -> str:
        """As it is written on a button; empty where the action has none."""
        return self.keys[action].upper() if self.on else ""

    @property
    def groups(self) -> list[tuple[str, list[tuple[Action, str]]]]:
        """The actions of each place with their keys, as they are written."""
        return [
            (place, [(one, self.keys[one.name].upper()) for one in ACTIONS if one.place == place])
            for place in (EVERYWHERE, SEARCH, REVIEW)
        ]

    @property
    def for_script(self) -> str:
        return json.dumps(dict(self.keys) if self.on else {}, ensure_ascii=False)


DEFAULT = Shortcuts(True, {action.name: action.default for action in ACTIONS})


def read_shortcuts(stored: Mapping[str, Any] | None) -> Shortcuts:
    """What a member stored. An action that came to be later has its default, unless its key is another one's here."""
    if not stored:
        return DEFAULT
    chosen = {name: str(key) for name, key in stored.get("keys", {}).items() if name in BY_NAME}
    for action in ACTIONS:
        if action.name not in chosen:
            taken = {key for name, key in chosen.items() if _meet(action, BY_NAME[name])}
            chosen[action.name] = "" if action.default in taken else action.default
    return Shortcuts(bool(stored.get("on", True)), {action.name: chosen[action.name] for action in ACTIONS})


def save_shortcuts(*, user_id: uuid.UUID | None, on: bool, keys: Mapping[str, str]) -> Shortcuts:
    """Keep what a member of the active tenant chose; actions that `keys` leaves out have no key.

    Raises Invalid at the action (no single character, or the key of another action of the same place), Conflict for who
    is no member.
    """
    read = {action.name: _read_key(keys.get(action.name, ""), action) for action in ACTIONS}
    if errors := _used_twice(read):
        refused = Invalid(errors[0]["detail"])
        refused.errors = errors
        raise refused
    _store(user_id, {"on": on, "keys": read})
    return Shortcuts(on, read)


def switch_shortcuts(*, user_id: uuid.UUID | None, on: bool) -> None:
    """Turn the single keys on or off; which they are stays. Raises Conflict for who is no member."""
    row = Membership.objects.filter(tenant=current_tenant_id(), user=user_id).first()
    kept = read_shortcuts(row.shortcuts if row else None)
    _store(user_id, {"on": on, "keys": dict(kept.keys)})


def reset_shortcuts(*, user_id: uuid.UUID | None) -> None:
    """Back to the defaults. Raises Conflict for who is no member."""
    _store(user_id, None)


def _store(user_id: uuid.UUID | None, value: Mapping[str, Any] | None) -> None:
    rows = Membership.objects.filter(tenant=current_tenant_id(), user=user_id) if user_id else None
    if rows is None or not rows.update(shortcuts=value):
        raise Conflict(_("Only members of this workspace can save keys."))


def _read_key(given: str, action: Action) -> str:
    """Raises Invalid."""
    key = unicodedata.normalize("NFC", given.strip()).lower()
    if key and (len(key) != 1 or not key.isprintable()):
        raise Invalid(_("A key is one character that your keyboard types."), pointer=f"/{action.name}")
    return key


def _meet(one: Action, other: Action) -> bool:
    """Whether both work on the same page."""
    return one.name != other.name and (one.place == other.place or EVERYWHERE in (one.place, other.place))


def _used_twice(keys: Mapping[str, str]) -> list[dict[str, str]]:
    found = []
    for place, action in enumerate(ACTIONS):
        for earlier in ACTIONS[:place]:
            if keys[action.name] and keys[action.name] == keys[earlier.name] and _meet(action, earlier):
                said = _(
                    "“%(key)s” is the key of “%(action)s” already. Choose another one, or leave it empty."
                )
                said %= {"key": keys[action.name].upper(), "action": earlier.label}
                found.append({"pointer": f"/{action.name}", "detail": said})
    return found
