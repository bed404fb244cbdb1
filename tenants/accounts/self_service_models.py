"""What people ask for by themselves (global: there is no tenant yet, or operators read across tenants).

`models` of this package re-exports it.
"""

from __future__ import annotations

from django.db import models
from uuid_utils.compat import uuid7


class SignUp(models.Model):
    """An address that asks for a workspace, until the link that was mailed to it is used or has expired.

    Made for known addresses too, so that asking tells nobody who has an account.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    # Empty once the link was used: then the account has it.
    email = models.EmailField(blank=True, default="")
    # Keyed, of the mailbox without what follows a plus sign: bounds how often one mailbox tries, when `email` is gone.
    address_digest = models.BinaryField(max_length=32)
    domain = models.CharField(max_length=253)
    # Of the page on which was asked; the letter is written in it.
    language = models.CharField(max_length=10, default="en")
    # Of the token in the newest letter; None before that is written, and after it was used.
    digest = models.BinaryField(max_length=32, null=True, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    mailed_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "sign_up"
        constraints = [
            models.UniqueConstraint(
                fields=["address_digest"], condition=models.Q(used_at=None), name="sign_up_open_once"
            )
        ]
        indexes = [
            models.Index(fields=["address_digest"], name="sign_up_by_address"),
            models.Index(fields=["used_at"], name="sign_up_by_use"),
        ]


class PlanRequest(models.Model):
    """What a workspace asks its operator for: another plan, a higher limit, or what its note says; one at a time."""

    class State(models.TextChoices):
        OPEN = "open"
        GRANTED = "granted"
        DECLINED = "declined"
        WITHDRAWN = "withdrawn"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="+")
    asked_by = models.ForeignKey("accounts.User", null=True, on_delete=models.SET_NULL, related_name="+")
    plan = models.ForeignKey("accounts.Plan", null=True, on_delete=models.SET_NULL, related_name="+")
    # One of RESOURCES, and the ceiling that is wanted; empty: none.
    resource = models.CharField(max_length=20, blank=True, default="")
    amount = models.FloatField(null=True, blank=True)
    note = models.CharField(max_length=1000)
    state = models.CharField(max_length=10, choices=State.choices, default=State.OPEN)
    # The operator's words, and who of them answered.
    words = models.CharField(max_length=1000, blank=True, default="")
    answered_by = models.ForeignKey("accounts.User", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "plan_request"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"], condition=models.Q(state="open"), name="plan_request_open_once"
            )
        ]
        indexes = [models.Index(fields=["tenant", "-id"], name="plan_request_of_tenant")]


class Letter(models.Model):
    """A letter that must not be lost: written down with what it tells of, sent by upkeep, and kept to be sent once.

    It holds no address: that is its reader's, when it is sent.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=30)
    # What makes it one: the same again is no second letter.
    once = models.CharField(max_length=200, unique=True)
    details = models.JSONField(default=dict)
    attempts = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    # Sent, or given up.
    done_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "letter"
        indexes = [
            models.Index(fields=["id"], condition=models.Q(done_at=None), name="letter_due"),
        ]
