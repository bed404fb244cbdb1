"""Single sign-on: which providers a tenant trusts, for which domains, and who came by them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone
from uuid_utils.compat import uuid7

from tenants.scope import TenantForeignKey, TenantModel


class SignOnConnection(models.Model):
    """What has to be known of a provider before there is a tenant (global: sign-in precedes one).

    The rest is the tenant's `IdentityProvider` with the same id. Sessions that were opened by it name it, and open its
    tenant alone, as long as it is enabled.
    """

    class Protocol(models.TextChoices):
        OIDC = "oidc"
        SAML = "saml"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="connections")
    protocol = models.CharField(max_length=4, choices=Protocol.choices)
    enabled = models.BooleanField(default=False)
    # Members with an address in its domains have no other way into the workspace.
    enforced = models.BooleanField(default=False)

    class Meta:
        db_table = "sign_on_connection"


class SignOnDomain(models.Model):
    """A domain that a tenant says is its own (global: an address leads to its provider before there is a tenant).

    Any number of tenants may claim a domain, and one at most has proved it.
    """

    class Proof(models.TextChoices):
        DNS = "dns"
        OPERATOR = "operator"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="+")
    domain = models.CharField(max_length=253)
    connection = models.ForeignKey(
        SignOnConnection, null=True, on_delete=models.SET_NULL, related_name="domains"
    )
    token = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    proved_at = models.DateTimeField(null=True, blank=True)
    proof = models.CharField(max_length=10, choices=Proof.choices, blank=True, default="")

    class Meta:
        db_table = "sign_on_domain"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "domain"], name="sign_on_domain_once"),
            models.UniqueConstraint(
                fields=["domain"],
                condition=models.Q(proved_at__isnull=False),
                name="sign_on_domain_proved_once",
            ),
        ]


class IdentityProvider(TenantModel):
    """How a tenant's provider is asked, and what its answers mean here. Its id is that of the SignOnConnection.

    `issuer` is the issuer of OpenID Connect, or the entity ID of SAML. `role_map` is a list of {"value", "role"}, of
    which the first that fits counts; an empty `default_role` lets nobody in whom no line fits.
    """

    name = models.CharField(max_length=100)
    issuer = models.CharField(max_length=1000, blank=True, default="")
    client_id = models.CharField(max_length=500, blank=True, default="")
    sealed_secret = models.BinaryField(null=True)
    scopes = models.CharField(max_length=200, blank=True, default="")
    metadata = models.TextField(blank=True, default="")
    metadata_url = models.CharField(max_length=2000, blank=True, default="")
    fetched_at = models.DateTimeField(null=True)
    email_claim = models.CharField(max_length=200, blank=True, default="")
    role_claim = models.CharField(max_length=200, blank=True, default="")
    role_map = models.JSONField(default=list)
    default_role = models.CharField(max_length=50, blank=True, default="")
    # Roles follow the provider at each sign-in; else they are given once.
    sync_roles = models.BooleanField(default=False)
    # When somebody last came through with the settings as they are.
    worked_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta(TenantModel.Meta):
        db_table = "identity_provider"


class SignOnIdentity(TenantModel):
    """Which person is meant by a provider's name for somebody (its `sub`, or NameID)."""

    provider = TenantForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    subject = models.CharField(max_length=500)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(default=timezone.now)

    class Meta(TenantModel.Meta):
        db_table = "sign_on_identity"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "provider", "subject"], name="sign_on_identity_once"),
            models.UniqueConstraint(fields=["tenant", "provider", "user"], name="sign_on_identity_of_user"),
        ]


class SignOnRequest(TenantModel):
    """A question that a browser was sent to a provider with; it is answered once, to the same browser.

    `state` is a digest of OpenID Connect's state or SAML's request id, `browser` one of what the browser's session
    keeps. `checks` is what the answer is checked with, `answer` what a SAML provider has asserted; both are sealed.
    """

    class Purpose(models.TextChoices):
        ENTER = "enter"
        TEST = "test"
        PROVE = "prove"

    provider = TenantForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="+")
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    # Who tests, or proves again who they are.
    user = models.ForeignKey("accounts.User", null=True, on_delete=models.CASCADE, related_name="+")
    state = models.BinaryField(max_length=32)
    browser = models.BinaryField(max_length=32)
    checks = models.BinaryField()
    answer = models.BinaryField(null=True)
    next = models.CharField(max_length=2000, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)

    class Meta(TenantModel.Meta):
        db_table = "sign_on_request"
        constraints = [models.UniqueConstraint(fields=["tenant", "state"], name="sign_on_request_state")]
        indexes = [
            models.Index(fields=["tenant", "provider"], name="sign_on_request_provider"),
            models.Index(fields=["tenant", "expires_at"], name="sign_on_request_expiry"),
        ]


class UsedAssertion(TenantModel):
    """A SAML assertion that was taken once, kept until it has expired."""

    provider = TenantForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="+")
    assertion = models.BinaryField(max_length=32)
    expires_at = models.DateTimeField()

    class Meta(TenantModel.Meta):
        db_table = "used_assertion"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "provider", "assertion"], name="used_assertion_once")
        ]
        indexes = [models.Index(fields=["tenant", "expires_at"], name="used_assertion_expiry")]
