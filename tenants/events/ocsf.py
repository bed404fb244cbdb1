"""Lines of the audit log in the Open Cybersecurity Schema Framework (OCSF), which SIEMs read without a parser of ours.

https://schema.ocsf.io/1.3.0: base event, and the classes Account Change 3001, Authentication 3002, Entity Management
3004, User Access Management 3005 and API Activity 6003. What has no place there is under `unmapped`.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version

VERSION = "1.3.0"
ACCOUNT_CHANGE, AUTHENTICATION, ENTITY_MANAGEMENT, USER_ACCESS, API_ACTIVITY = 3001, 3002, 3004, 3005, 6003
OTHER, SUCCESS, FAILURE = 99, 1, 2
INFORMATIONAL, MEDIUM = 1, 3
# `unmapped.details` of more bytes than this are left out, so that every line fits into a datagram.
MAX_DETAILS = 4_096

# Of Entity Management, and the same numbers of API Activity.
CREATE, READ, UPDATE, DELETE = 1, 2, 3, 4
NAMES = {CREATE: "Create", READ: "Read", UPDATE: "Update", DELETE: "Delete", OTHER: "Other"}
_BY_WORD = {
    **dict.fromkeys(
        (
            *("created", "added", "requested", "started", "opened", "invited", "owner_invited", "imported"),
            *("training_started", "promotion_started", "version_added", "reset_link_made"),
        ),
        CREATE,
    ),
    **dict.fromkeys(("downloaded", "exported", "tested", "backtested"), READ),
    **dict.fromkeys(
        (
            *(
                "updated",
                "changed",
                "rotated",
                "secret_rotated",
                "moderated",
                "renewed",
                "link_renewed",
                "promoted",
            ),
            *(
                "rolled_back",
                "labelled",
                "trained",
                "merged",
                "replayed",
                "retried",
                "recalibrated",
                "released",
            ),
            *("suspended", "resumed", "set", "reset"),
        ),
        UPDATE,
    ),
    **dict.fromkeys(
        (
            "deleted",
            "removed",
            "erased",
            "expired",
            "revoked",
            "disabled",
            "cancelled",
            "retired",
            "abandoned",
        ),
        DELETE,
    ),
}


@dataclass(frozen=True)
class LogLine:
    """A line of the audit log or of the operators' log, with where it belongs. `tenant` is an id, or empty."""

    id: str
    at: dt.datetime
    actor: str
    verb: str
    target: str
    details: Mapping[str, object]
    tenant: str
    tenant_name: str
    sequence: int | None = None


@dataclass(frozen=True)
class _Meaning:
    """What an event is in OCSF: class, activity and its name, and the attributes that this class asks for."""

    class_uid: int
    activity: int
    name: str
    attributes: dict[str, object]
    failed: bool = False


def event_of(line: LogLine) -> dict[str, object]:
    """The event as JSON can hold it."""
    meaning = _meaning(line)
    kept = line.details if len(json.dumps(line.details, default=str)) <= MAX_DETAILS else {"left_out": True}
    return {
        "activity_id": meaning.activity,
        "activity_name": meaning.name,
        "actor": {"user": _user(line.actor or "system")},
        "category_uid": meaning.class_uid // 1000,
        "class_uid": meaning.class_uid,
        "message": f"{line.actor or 'system'} {line.verb} {line.target}".rstrip(),
        "metadata": _metadata(line),
        "severity_id": MEDIUM if meaning.failed else INFORMATIONAL,
        "status_id": FAILURE if meaning.failed else SUCCESS,
        "time": round(line.at.timestamp() * 1000),
        "type_uid": meaning.class_uid * 100 + meaning.activity,
        "unmapped": {
            "verb": line.verb,
            "target": line.target,
            "details": kept,
            "tenant_name": line.tenant_name,
        },
        **meaning.attributes,
    }


def _metadata(line: LogLine) -> dict[str, object]:
    found: dict[str, object] = {
        "version": VERSION,
        "product": {"name": "Crosslight", "vendor_name": "Crosslight", "version": version("crosslight")},
        "uid": line.id,
        "log_name": "audit" if line.tenant else "operators",
        "event_code": line.verb,
    }
    if line.tenant:
        found["tenant_uid"] = line.tenant
    if line.sequence is not None:
        found["sequence"] = line.sequence
    return found


def _user(name: str) -> dict[str, object]:
    """OCSF's user: 3 is System, 99 Other (a key), 2 Admin (an operator), 1 User."""
    if name == "system":
        return {"name": "system", "type_id": 3}
    if name.startswith("key:"):
        return {"name": name, "uid": name.removeprefix("key:"), "type_id": OTHER, "type": "API key"}
    if name.startswith("operator:"):
        return {"name": name, "type_id": 2}
    return {"uid": name, "type_id": 1}


def _meaning(line: LogLine) -> _Meaning:
    subject, _, word = line.verb.partition(".")
    if subject == "session":
        return _authentication(line, word)
    if line.verb == "access.refused":
        return _refusal(line)
    if line.verb == "member.role_changed":
        privileges = [str(line.details.get("to", ""))]
        return _Meaning(
            USER_ACCESS, 1, "Assign Privileges", {"user": _user(line.target), "privileges": privileges}
        )
    if line.verb in _ACCOUNT:
        activity, name = _ACCOUNT[line.verb]
        return _Meaning(ACCOUNT_CHANGE, activity, name, {"user": _user(line.target or "unknown")})
    activity = _BY_WORD.get(word, OTHER)
    entity: dict[str, object] = {"type": subject, "name": line.target or subject}
    if line.target:
        entity["uid"] = line.target
    return _Meaning(
        ENTITY_MANAGEMENT, activity, NAMES[activity] if activity != OTHER else line.verb, {"entity": entity}
    )


_ACCOUNT = {
    "member.joined": (1, "Create"),
    "member.removed": (6, "Delete"),
    "member.reset_link_made": (4, "Password Reset"),
}


def _authentication(line: LogLine, word: str) -> _Meaning:
    activity, name = (2, "Logoff") if word == "ended" else (1, "Logon")
    attributes: dict[str, object] = {
        "user": _user(line.target or line.actor or "unknown"),
        "service": {"name": "Crosslight"},
        "src_endpoint": _endpoint(line),
        "is_mfa": bool(line.details.get("second_factor", False)),
    }
    if word == "refused":
        attributes["status_detail"] = str(line.details.get("why", ""))
    return _Meaning(AUTHENTICATION, activity, name, attributes, failed=word == "refused")


def _refusal(line: LogLine) -> _Meaning:
    by_method = {"POST": CREATE, "GET": READ, "HEAD": READ, "PUT": UPDATE, "PATCH": UPDATE, "DELETE": DELETE}
    activity = by_method.get(str(line.details.get("method", "")), OTHER)
    attributes: dict[str, object] = {
        "api": {"operation": line.target or "unknown", "service": {"name": "Crosslight"}},
        "src_endpoint": _endpoint(line),
        "status_detail": f"lacks the scope {line.details.get('scope', '')}",
    }
    return _Meaning(API_ACTIVITY, activity, NAMES[activity], attributes, failed=True)


def _endpoint(line: LogLine) -> dict[str, object]:
    address = str(line.details.get("address", ""))
    return {"ip": address} if address else {"name": "unknown"}
