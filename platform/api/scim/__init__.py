"""`/scim/v2`: SCIM 2.0 (RFC 7643, 7644) for the identity provider of one tenant (docs/provisioning.md)."""
