"""Tenants, people, keys, plans and what they used."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from uuid_utils.compat import uuid7

from ml.normalization import normalize
from tenants.accounts.operator_models import Acting, FeatureFlag, FlagTenant, OperatorAct, OperatorRequest
from tenants.accounts.self_service_models import Letter, PlanRequest, SignUp
from tenants.accounts.sign_on_models import (
    IdentityProvider,
    SignOnConnection,
    SignOnDomain,
    SignOnIdentity,
    SignOnRequest,
    UsedAssertion,
)
from tenants.scope import TenantModel

RESOURCES = ("requests", "assets", "bytes", "vectors", "generations", "cpu_s", "gpu_s")
RATE = "rate_per_minute"
# A ceiling for each asset, not for all: bytes of its metadata as JSON. A plan that does not name it has the default.
METADATA = "metadata_bytes"
METADATA_DEFAULT = 16 * 1024


class Plan(models.Model):
    """What a tenant may use. `limits` maps a resource to its ceiling; a resource that is absent is unlimited."""

    slug = models.SlugField(primary_key=True, max_length=50)
    name = models.CharField(max_length=100)
    limits = models.JSONField(default=dict)
    rate_per_minute = models.PositiveIntegerField(null=True, blank=True)
    # A trial: a tenant that is put on it may only read so many days later (`trials`). None: it has no end.
    trial_days = models.PositiveIntegerField(null=True, blank=True)
    # Members who ask for more may choose it.
    offered = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "plan"


class Tenant(models.Model):
    """One customer of the installation (global: log-in and key look-up precede any scope)."""

    class State(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    slug = models.SlugField(unique=True, max_length=50)
    name = models.CharField(max_length=200)
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="tenants")
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    # Its people must have a second factor before they may do anything here.
    requires_second_factor = models.BooleanField(default=False)
    # Where this tenant differs from its plan: a resource, or RATE, to its ceiling; None for no ceiling.
    exceptions = models.JSONField(default=dict, blank=True)
    # Whether what it generates shows an icon and begins with a spoken notice; None: as the installation has it.
    generated_icon = models.BooleanField(null=True, blank=True)
    generated_notice = models.BooleanField(null=True, blank=True)
    # From then on it may only be read (`trials`); None: its plan has no end.
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    # Its owner closes it: from then on it is erased, unless that is taken back.
    closes_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "tenant"

    @property
    def limits(self) -> dict[str, float]:
        """The ceilings of the plan with this tenant's exceptions; a resource that is absent is unlimited."""
        merged = {**self.plan.limits, **self.exceptions}
        return {
            name: most for name, most in merged.items() if name not in (RATE, METADATA) and most is not None
        }

    @property
    def metadata_limit(self) -> float | None:
        """Bytes that the metadata of one asset may have; None for no limit."""
        return self.exceptions.get(METADATA, self.plan.limits.get(METADATA, METADATA_DEFAULT))

    @property
    def rate_per_minute(self) -> int | None:
        """Requests a minute; None for no limit."""
        return self.exceptions.get(RATE, self.plan.rate_per_minute)


class TenantSecurity(models.Model):
    """What a tenant asks of those who come in; no row: what the installation asks (global: read before any scope).

    Limits can only be stricter than the installation's (`tenants.accounts.security`).
    """

    tenant = models.OneToOneField(Tenant, primary_key=True, on_delete=models.CASCADE, related_name="security")
    session_idle_minutes = models.PositiveIntegerField(null=True, blank=True)
    session_max_minutes = models.PositiveIntegerField(null=True, blank=True)
    # From where people and keys come in (`networks`); None: from anywhere.
    allowed_networks = models.JSONField(null=True, blank=True)
    # Whether operators need an owner's approval (`tenants.people.approvals`).
    operator_approval = models.BooleanField(default=False, db_default=False)

    class Meta:
        db_table = "tenant_security"


class UserManager(BaseUserManager["User"]):
    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        """The one spelling of an address: small letters in the form that Django's sign-in reads it (NFKC).

        Without it full-width letters or a long s would make a second account, or a second count of attempts.
        """
        return normalize("NFKC", email or "").strip().lower()

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractBaseUser, PermissionsMixin):
    """A person (global: one may work for several tenants). Operators are staff."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(unique=True)
    name = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    # In which the person used the console last, for letters; empty: not known.
    language = models.CharField(max_length=10, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        db_table = "user"


class Membership(models.Model):
    """A person's role in a tenant (global: read at log-in; every read names the user or the tenant)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    # A built-in one, or a CustomRole of the tenant.
    role = models.CharField(max_length=40)
    # What the person sees of the tenant (`roles.narrowing_of`); None: all of it.
    datasets = ArrayField(models.UUIDField(), null=True, blank=True)
    queues = ArrayField(models.CharField(max_length=100), null=True, blank=True)
    # An owner with a second factor may use the password although single sign-on is enforced.
    break_glass = models.BooleanField(default=False, db_default=False)
    # The person does not want to be told any more how to begin here.
    checklist_dismissed = models.BooleanField(default=False, db_default=False)
    # The person's single keys in the console (`tenants.people.shortcuts`); None: those that everybody begins with.
    shortcuts = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "membership"
        constraints = [models.UniqueConstraint(fields=["tenant", "user"], name="membership_once")]


class CustomRole(models.Model):
    """A role that a tenant made (global: read at log-in; every read names the tenant)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=40)
    description = models.CharField(max_length=300, blank=True, default="")
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "custom_role"
        constraints = [models.UniqueConstraint(fields=["tenant", "name"], name="custom_role_once")]


class Invitation(models.Model):
    """An address that may join a tenant (global: its token is looked up before there is a tenant)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    email = models.EmailField()
    # A built-in one, or a CustomRole of the tenant.
    role = models.CharField(max_length=40)
    # What they will see of the tenant, as in `Membership`.
    datasets = ArrayField(models.UUIDField(), null=True, blank=True)
    queues = ArrayField(models.CharField(max_length=100), null=True, blank=True)
    digest = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    # Made by an operator who acts in the tenant; it is over when that is.
    acting = models.ForeignKey(Acting, null=True, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    mailed_at = models.DateTimeField(null=True, blank=True)
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "invitation"

    @property
    def open(self) -> bool:
        """Whether it can still be accepted."""
        ended = self.accepted_at is not None or self.revoked_at is not None or self.outlived
        return not ended and self.expires_at > timezone.now()

    @property
    def outlived(self) -> bool:
        """Whether the operator who made it acts in the tenant no more."""
        return self.acting is not None and self.acting.over


class Session(AbstractBaseSession):
    """A browser that a person signed in with (global). Deleting the row ends the session."""

    # Names the session where its key must not stand: in pages and addresses.
    handle = models.UUIDField(unique=True)
    user = models.ForeignKey(User, null=True, on_delete=models.CASCADE, related_name="+")
    device = models.CharField(max_length=300, blank=True)
    address = models.CharField(max_length=45, blank=True)
    seen_at = models.DateTimeField(default=timezone.now)
    # When its row was made: signing in, like a new password, makes another one. Those of the release before count from
    # the upgrade.
    signed_in_at = models.DateTimeField(default=timezone.now, db_default=Now())
    # By which single sign-on it was opened; it opens that one's tenant alone. A row that is gone opens none.
    connection = models.ForeignKey(
        SignOnConnection,
        null=True,
        on_delete=models.CASCADE,
        db_constraint=False,
        db_index=False,
        related_name="+",
    )

    class Meta(AbstractBaseSession.Meta):
        abstract = False
        db_table = "session"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("force_update") and not kwargs.get("update_fields"):
            # What a page keeps in a session is no use of it, and a slow page would take back a later use.
            kept = ("session_key", "seen_at", "signed_in_at")
            kwargs["update_fields"] = [
                field.name for field in self._meta.concrete_fields if field.name not in kept
            ]
        super().save(*args, **kwargs)


class SecondFactor(models.Model):
    """A person's authenticator app (global). The secret is encrypted; a code of a used time step is refused."""

    user = models.OneToOneField(
        User, primary_key=True, on_delete=models.CASCADE, related_name="second_factor"
    )
    sealed_secret = models.BinaryField()
    confirmed_at = models.DateTimeField(null=True, blank=True)
    last_step = models.BigIntegerField(default=0)

    class Meta:
        db_table = "second_factor"


class Passkey(models.Model):
    """The public half of a key pair in an authenticator of a person (global)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="passkeys")
    name = models.CharField(max_length=100)
    # What the authenticator calls it: at most 1,023 bytes, by WebAuthn.
    credential_id = models.BinaryField(max_length=1023, unique=True)
    public_key = models.BinaryField()
    # How often it was used, by its own count; 0 for those that do not count.
    sign_count = models.BigIntegerField(default=0)
    transports = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "passkey"


class RecoveryCode(models.Model):
    """A code that stands in once for the authenticator app or a passkey (global). Using it deletes the row."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="recovery_codes")
    digest = models.BinaryField(max_length=32)

    class Meta:
        db_table = "recovery_code"


class ApiKey(TenantModel):
    """A key as its tenant sees it; what authenticates is its KeyDigest."""

    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "api_key"


class KeyDigest(models.Model):
    """The authenticating half of a key (global: look-up precedes any tenant). Only a digest of the secret."""

    prefix = models.CharField(primary_key=True, max_length=16)
    digest = models.BinaryField(max_length=32)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    key_id = models.UUIDField(unique=True)
    scopes = models.JSONField(default=list)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    # To the minute, and from which address.
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_address = models.GenericIPAddressField(null=True, blank=True)
    # From where it may be used (`networks`), and how often beside the tenant's own rate; None: as its tenant may.
    networks = models.JSONField(null=True, blank=True)
    rate_per_minute = models.PositiveIntegerField(null=True, blank=True)

    class Meta:
        db_table = "key_digest"


class InstallationSecret(models.Model):
    """What all hosts of an installation have to know and nobody else (global; `tenants.generation.signing_keys`).

    `content` is sealed where `key_id` says under which SECRET_KEY; certificates, which are public, are not.
    """

    name = models.CharField(primary_key=True, max_length=200)
    # With whose erasure it goes; None for the installation's own.
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+", null=True, blank=True)
    content = models.BinaryField()
    key_id = models.CharField(max_length=16, blank=True, default="")
    changed_at = models.DateTimeField(auto_now=True)

    class Meta:
        db_table = "installation_secret"


class DataKey(models.Model):
    """A key that seals what one tenant has, wrapped under a master key (global; `tenants.accounts.keyring`).

    `owner` is a tenant's id, or None for the installation's own. No foreign key: that a key was destroyed is remembered
    when the tenant is gone.
    """

    class State(models.TextChoices):
        ACTIVE = "active"
        # Opens what it sealed; seals nothing.
        RETIRED = "retired"
        DESTROYED = "destroyed"

    id = models.UUIDField(primary_key=True)
    owner = models.UUIDField(null=True, blank=True)
    version = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    wrapped = models.BinaryField()
    # Under which master key; an ARN where that is a KMS's.
    master_id = models.CharField(max_length=300)
    created_at = models.DateTimeField(auto_now_add=True)
    destroyed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "data_key"
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "version"], name="data_key_version", nulls_distinct=False
            ),
            models.UniqueConstraint(
                fields=["owner"],
                condition=models.Q(state="active"),
                name="data_key_active",
                nulls_distinct=False,
            ),
        ]


class AllowedOrigin(TenantModel):
    """The origin of a web page whose scripts may call the API with this tenant's keys: `https://shop.example`."""

    origin = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "allowed_origin"
        constraints = [models.UniqueConstraint(fields=["tenant", "origin"], name="allowed_origin_once")]


class QuotaCounter(TenantModel):
    """What is used and reserved of one resource; `period` is empty for stocks and YYYY-MM for flows."""

    resource = models.CharField(max_length=20)
    period = models.CharField(max_length=7, default="", blank=True)
    used = models.FloatField(default=0)
    reserved = models.FloatField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "quota_counter"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "resource", "period"], name="quota_counter_once")
        ]


class Reservation(TenantModel):
    """What one piece of accepted work may use: settled once, when the work ends."""

    owner = models.UUIDField()
    amounts = models.JSONField()
    period = models.CharField(max_length=7)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "reservation"
        constraints = [models.UniqueConstraint(fields=["tenant", "owner"], name="reservation_once")]


class UsageDay(TenantModel):
    """Metered usage of one kind on one day (UTC), written by the flush and never per request."""

    day = models.DateField()
    kind = models.CharField(max_length=20)
    amount = models.FloatField(default=0)

    class Meta(TenantModel.Meta):
        db_table = "usage_day"
        constraints = [models.UniqueConstraint(fields=["tenant", "day", "kind"], name="usage_day_once")]


__all__ = [
    "METADATA",
    "METADATA_DEFAULT",
    "RATE",
    "RESOURCES",
    "Acting",
    "AllowedOrigin",
    "ApiKey",
    "CustomRole",
    "DataKey",
    "FeatureFlag",
    "FlagTenant",
    "IdentityProvider",
    "InstallationSecret",
    "Invitation",
    "KeyDigest",
    "Letter",
    "Membership",
    "OperatorAct",
    "OperatorRequest",
    "Passkey",
    "Plan",
    "PlanRequest",
    "QuotaCounter",
    "RecoveryCode",
    "Reservation",
    "SecondFactor",
    "Session",
    "SignOnConnection",
    "SignOnDomain",
    "SignOnIdentity",
    "SignOnRequest",
    "SignUp",
    "Tenant",
    "TenantSecurity",
    "UsageDay",
    "UsedAssertion",
    "User",
]
