"""Policies and their versions, what is in force, and trying one on the history. What a version says is in `rules`."""

from tenants.moderation.policies.services import (
    Change,
    InForce,
    activate,
    add_version,
    after_activation,
    after_roll_back,
    create_policy,
    deciding_version,
    enforcing_row,
    free_name,
    in_force,
    is_any_in_force,
    newest,
    newest_number,
    record_shadow_decisions,
    roll_back,
)

__all__ = [
    "Change",
    "InForce",
    "activate",
    "add_version",
    "after_activation",
    "after_roll_back",
    "create_policy",
    "deciding_version",
    "enforcing_row",
    "free_name",
    "in_force",
    "is_any_in_force",
    "newest",
    "newest_number",
    "record_shadow_decisions",
    "roll_back",
]
