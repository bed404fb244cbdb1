"""Single sign-on of tenants: OpenID Connect and SAML 2.0.

`domains` and `connections` are what a tenant sets up; `oidc` and `saml` ask a provider and check what it says, and know
no tenant; `flows` lead one browser through it; `joining` decides whose account that is and what it may do here.
"""
