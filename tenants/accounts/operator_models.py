"""What operators decide and do (global: none of it is a tenant's own). `models` of this package re-exports it."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from uuid_utils.compat import uuid7


class OperatorAct(models.Model):
    """One line of the operators' log: who did what to whom, and why. The application may add to it and read it.

    `target` is in words (a tenant's slug, a plan's), as the line outlives what it is about.
    """

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    actor = models.CharField(max_length=254)
    verb = models.CharField(max_length=50)
    target = models.CharField(max_length=100, blank=True)
    reason = models.CharField(max_length=300, blank=True)
    details = models.JSONField(default=dict)
    address = models.CharField(max_length=45, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "operator_act"
        indexes = [models.Index(fields=["target", "-id"], name="operator_act_by_target")]


class Acting(models.Model):
    """An operator works in a tenant for a while, in one session; what they do there is logged as theirs."""

    class Access(models.TextChoices):
        READ = "read", _("View only")
        FULL = "full", _("View and change")

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="+")
    operator = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    # The handle of the session, which ends with the session itself.
    session = models.UUIDField(db_index=True)
    access = models.CharField(max_length=4, choices=Access.choices, default=Access.READ)
    reason = models.CharField(max_length=300)
    started_at = models.DateTimeField(auto_now_add=True)
    until = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "acting"

    @property
    def over(self) -> bool:
        """Whether it has been ended, or its time has passed."""
        return self.ended_at is not None or self.until <= timezone.now()


class OperatorRequest(models.Model):
    """An operator asks a tenant for its approval, and its answer (global; every read names the tenant).

    What is asked never changes: who asks for something else makes another one, so that nobody approves what they have
    not read. Who answered stands in the tenant's audit log.
    """

    class Answer(models.TextChoices):
        APPROVED = "approved"
        DENIED = "denied"
        REVOKED = "revoked"

    # `state` of one that waits, and of one that was not answered in time or has come to its end.
    PENDING, EXPIRED = "pending", "expired"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="+")
    operator = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    access = models.CharField(max_length=4, choices=Acting.Access.choices)
    reason = models.CharField(max_length=300)
    minutes = models.PositiveIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)
    # Until when it can be answered; once approved, until when it holds.
    until = models.DateTimeField()
    answer = models.CharField(max_length=8, choices=Answer.choices, blank=True, default="")

    class Meta:
        db_table = "operator_request"
        indexes = [models.Index(fields=["tenant", "-id"], name="operator_request_of_tenant")]

    @property
    def state(self) -> str:
        if self.answer in ("", self.Answer.APPROVED) and self.until <= timezone.now():
            return self.EXPIRED
        return self.answer or self.PENDING


class FeatureFlag(models.Model):
    """How a flag that the code knows is set here; where there is no row, the flag has its default."""

    class State(models.TextChoices):
        ON = "on", _("On for everyone")
        SOME = "some", _("On for some")
        OFF = "off", _("Off")

    name = models.CharField(primary_key=True, max_length=50)
    state = models.CharField(max_length=4, choices=State.choices)
    # Percent of all tenants, besides those that are named.
    share = models.PositiveSmallIntegerField(default=0)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "feature_flag"


class FlagTenant(models.Model):
    """A tenant that has a flag whatever the share says."""

    flag = models.ForeignKey(FeatureFlag, on_delete=models.CASCADE, related_name="chosen")
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="+")

    class Meta:
        db_table = "flag_tenant"
        constraints = [models.UniqueConstraint(fields=["flag", "tenant"], name="flag_tenant_once")]


class Lease(models.Model):
    """What one process of all hosts does at a time, and until when it is known to live (`tenants.accounts.leases`)."""

    name = models.CharField(primary_key=True, max_length=120)
    holder = models.UUIDField()
    until = models.DateTimeField()

    class Meta:
        db_table = "lease"


class UpkeepRange(models.Model):
    """A part of all tenants, by their ids: when its upkeep last began, how often, and since when it is wanted."""

    number = models.PositiveSmallIntegerField(primary_key=True)
    started_at = models.DateTimeField(null=True)
    wanted_at = models.DateTimeField(null=True)
    runs = models.PositiveIntegerField(default=0)

    class Meta:
        db_table = "upkeep_range"
