"""What an identity provider keeps here of a tenant's people (SCIM): tokens, people, groups; and roles of groups."""

from __future__ import annotations

from django.db import models

from tenants.scope import TenantForeignKey, TenantModel


class ProvisioningToken(models.Model):
    """A tenant's token for `/scim/v2` (global: look-up precedes any tenant). Only a digest of the secret."""

    prefix = models.CharField(primary_key=True, max_length=16)
    digest = models.BinaryField(max_length=32)
    tenant = models.ForeignKey("accounts.Tenant", on_delete=models.CASCADE, related_name="+")
    name = models.CharField(max_length=100)
    created_by = models.ForeignKey("accounts.User", null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "provisioning_token"


class ProvisioningSettings(TenantModel):
    """Which role provisioned people get: of the groups they are in, or else `default_role`."""

    default_role = models.CharField(max_length=60, default="viewer")
    # [{"group": display name, "role": role}]
    group_roles = models.JSONField(default=list)

    class Meta(TenantModel.Meta):
        db_table = "provisioning_settings"
        constraints = [models.UniqueConstraint(fields=["tenant"], name="provisioning_settings_once")]


class ProvisionedUser(TenantModel):
    """A person as the tenant's identity provider knows them; active is who is a member."""

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    user_name = models.CharField(max_length=254)
    # `user_name` in small letters, as its comparison ignores case.
    user_name_key = models.CharField(max_length=254)
    external_id = models.CharField(max_length=255, blank=True, default="")
    display_name = models.CharField(max_length=255, blank=True, default="")
    formatted_name = models.CharField(max_length=255, blank=True, default="")
    given_name = models.CharField(max_length=255, blank=True, default="")
    family_name = models.CharField(max_length=255, blank=True, default="")
    # Of the account, as it was when it was linked: one that is another since then is not brought back.
    address = models.EmailField()
    # As sent. The person signs in with the address of their account.
    emails = models.JSONField(default=list)
    # Of a person who was deactivated: what reactivation brings back.
    former_role = models.CharField(max_length=60, blank=True, default="")
    # Whether the present role comes from a group.
    by_group = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        db_table = "provisioned_user"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="provisioned_user_once"),
            models.UniqueConstraint(fields=["tenant", "user_name_key"], name="provisioned_user_by_name"),
        ]
        indexes = [models.Index(fields=["tenant", "external_id"], name="provisioned_user_by_external")]


class ProvisionedGroup(TenantModel):
    """A group of the tenant's identity provider."""

    display_name = models.CharField(max_length=255)
    display_name_key = models.CharField(max_length=255)
    external_id = models.CharField(max_length=255, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    class Meta(TenantModel.Meta):
        db_table = "provisioned_group"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "display_name_key"], name="provisioned_group_by_name")
        ]
        indexes = [models.Index(fields=["tenant", "external_id"], name="provisioned_group_by_external")]


class ProvisionedMember(TenantModel):
    """A person in a group."""

    group = TenantForeignKey(ProvisionedGroup, on_delete=models.CASCADE, related_name="members")
    person = TenantForeignKey(ProvisionedUser, on_delete=models.CASCADE, related_name="groups")

    class Meta(TenantModel.Meta):
        db_table = "provisioned_member"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "group", "person"], name="provisioned_member_once")
        ]
        indexes = [models.Index(fields=["tenant", "person"], name="provisioned_member_by_person")]
