"""Provisioning by an identity provider (SCIM 2.0, RFC 7643 and 7644): tokens, the directory of people and groups."""
