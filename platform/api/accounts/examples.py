"""What the OpenAPI document shows of keys, people and usage (`api.examples`)."""

from __future__ import annotations

from typing import Any, Final

REQUESTS: Final[dict[str, dict[str, Any]]] = {
    "NewInvitation": {"email": "ann@shop.example", "role": "editor"},
    "NewKey": {
        "name": "Warehouse scanner",
        "scopes": ["read", "search"],
        "expires_at": "2027-12-31T00:00:00Z",
        "networks": ["192.0.2.0/24"],
    },
    "KeyChanges": {"networks": ["192.0.2.0/24", "2001:db8::/48"], "rate_per_minute": 120},
    "SecurityChanges": {"session_idle_minutes": 30, "allowed_networks": ["192.0.2.0/24"]},
    "OperatorAnswer": {"answer": "revoke"},
    "Rotation": {"overlap_s": 3600},
    "OriginList": {"origins": ["https://shop.example"]},
    "MemberChanges": {"role": "editor"},
    "NewRole": {
        "name": "night-shift",
        "description": "Reviews at night, searches nothing.",
        "scopes": ["read", "moderate"],
    },
    "RoleChanges": {"scopes": ["read", "search", "moderate"]},
}

ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "Me": {"scopes": ["read", "search"], "malware_scan": "on"},
    "KeyName": {"id": "01a2380c-24ed-75e4-b67b-380482d447dd", "prefix": "cl1bd0071708"},
    "TenantName": {"id": "01a2380c-22bd-7383-a227-109fa0e02923", "slug": "grocery", "name": "Corner Grocery"},
    "PlanName": {"slug": "demo", "name": "Demo", "rate_per_minute": 600},
    "Quota": {"used": 261, "reserved": 0, "limit": 250000},
    "NewKey": {"token": "cl71e60c8d0c.not-a-real-secret"},
    "Key": {
        "id": "01a23818-a9c1-7326-adbc-2958da0871a2",
        "name": "Warehouse scanner",
        "prefix": "cl71e60c8d0c",
        "scopes": ["read", "search"],
        "created_at": "2026-12-02T18:51:10.146Z",
        "expires_at": "2027-12-31T00:00:00.027Z",
        "last_used_at": "2026-12-02T18:58:33.925Z",
        "last_address": "192.0.2.7",
        "networks": ["192.0.2.0/24"],
        "rate_per_minute": None,
        "revoked_at": None,
    },
    "Member": {
        "id": "01a2380c-22c6-73a0-893b-02e5405d4967",
        "email": "ann@shop.example",
        "name": "Ann Bee",
        "role": "owner",
        "second_factor": True,
        "since": "2026-12-02T18:37:29.415Z",
    },
    "NewInvitation": {"link": "https://crosslight.example/invitation?token=not-a-real-token"},
    "Invitation": {
        "id": "01a23818-aa5c-7052-959e-22bdc7d74045",
        "email": "ann@shop.example",
        "role": "editor",
        "created_at": "2026-12-02T18:51:10.300Z",
        "expires_at": "2026-12-09T18:51:10.300Z",
        "mailed_at": None,
    },
    "SessionLimits": {"idle_minutes": 30, "max_minutes": 10080},
    "Security": {
        "session_idle_minutes": 30,
        "session_max_minutes": None,
        "allowed_networks": ["192.0.2.0/24"],
        "sessions": {"idle_minutes": 30, "max_minutes": 10080},
    },
    "OperatorRequest": {
        "id": "01a2381b-3c40-7d13-9c1e-5be0a8c1f7e2",
        "operator": "kim@operators.example",
        "access": "read",
        "reason": "Ticket 12: a search that finds nothing.",
        "minutes": 60,
        "state": "approved",
        "until": "2026-12-02T20:02:11.090Z",
        "created_at": "2026-12-02T18:54:44.800Z",
    },
    "Role": {
        "name": "night-shift",
        "description": "Reviews at night, searches nothing.",
        "scopes": ["read", "moderate"],
        "built_in": False,
    },
    "UsageDay": {"day": "2026-12-01", "kind": "requests", "amount": 1284.0},
}
