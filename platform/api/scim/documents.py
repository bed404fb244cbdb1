"""What SCIM sees: the resources as schemas, read from and written as documents (RFC 7643).

The models of scim2-models with the attributes that are kept here; `/Schemas` says so. Others are accepted and dropped,
as Entra ID and Okta send what they have.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from django.conf import settings
from scim2_models import (
    URN,
    AuthenticationScheme,
    Bulk,
    ChangePassword,
    ComplexAttribute,
    Context,
    Email,
    ETag,
    Filter,
    GroupMember,
    GroupMembership,
    InvalidSyntaxException,
    InvalidValueException,
    Meta,
    Mutability,
    Patch,
    PatchOp,
    Required,
    Resource,
    ResourceType,
    ScimPolicy,
    ScimProvider,
    ServiceProviderConfig,
    Sort,
    Uniqueness,
)

from tenants.people.models import ProvisionedGroup, ProvisionedUser
from tenants.people.provisioning.directory import MemberChange, Person

BASE = "/scim/v2"
MAX_RESULTS = 200
# Of a list of groups with their members, of which each may have 10,000.
MAX_GROUPS_WITH_MEMBERS = 10
MAX_OPERATIONS = 200
MAX_DEPTH = 20

# How Entra ID and Okta differ from RFC 7644: attributes that nobody keeps, `remove` with a value.
POLICY = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)


class UserName(ComplexAttribute):
    formatted: str | None = None
    family_name: str | None = None
    given_name: str | None = None


class User(Resource[Any]):
    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    user_name: Annotated[str | None, Required.true, Uniqueness.server] = None
    name: UserName | None = None
    display_name: str | None = None
    active: bool | None = None
    emails: list[Email] | None = None
    groups: Annotated[list[GroupMembership] | None, Mutability.read_only] = None


class Group(Resource[Any]):
    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:Group")

    display_name: Annotated[str | None, Required.true, Uniqueness.server] = None
    members: list[GroupMember] | None = None


PROVIDER = ScimProvider(models=[User, Group], policy=POLICY)
# Attributes of a group's document that a PATCH changes without the others.
GROUP_TEXTS = {"displayname": "display_name", "externalid": "external_id"}
R = TypeVar("R", bound=Resource[Any])
M = TypeVar("M", GroupMember, GroupMembership)


def configuration() -> dict[str, object]:
    """RFC 7643, section 5."""
    return ServiceProviderConfig(
        documentation_uri=None,
        patch=Patch(supported=True),
        bulk=Bulk(supported=False, max_operations=0, max_payload_size=0),
        filter=Filter(supported=True, max_results=MAX_RESULTS),
        change_password=ChangePassword(supported=False),
        sort=Sort(supported=False),
        etag=ETag(supported=False),
        authentication_schemes=[
            AuthenticationScheme(
                type=AuthenticationScheme.Type.oauthbearertoken,
                name="Provisioning token",
                description="Authorization: Bearer with a token that an admin makes on the Provisioning page.",
                primary=True,
            )
        ],
        meta=Meta(resource_type="ServiceProviderConfig", location=location("ServiceProviderConfig")),
    ).model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)


def resource_types() -> list[ResourceType]:
    return [with_meta(one, "ResourceType", f"ResourceTypes/{one.name}") for one in PROVIDER.resource_types]


def schemas() -> list[Resource[Any]]:
    return [with_meta(one, "Schema", f"Schemas/{one.id}") for one in PROVIDER.schemas]


def with_meta(resource: R, kind: str, path: str) -> R:
    copied = resource.model_copy(deep=True)
    copied.meta = Meta(resource_type=kind, location=location(path))
    return copied


def location(path: str) -> str:
    return f"{settings.BASE_URL}{BASE}/{path}"


# --- Reading bodies ---


def read_body(data: object) -> dict[str, Any]:
    """A JSON object that can be read without harm. Raises InvalidSyntaxException."""
    if not isinstance(data, dict):
        raise InvalidSyntaxException(detail="The body must be a JSON object.")
    if _depth(data) > MAX_DEPTH:
        raise InvalidSyntaxException(detail=f"The body is nested more than {MAX_DEPTH} deep.")
    try:
        text = json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidSyntaxException(detail="A text holds an unpaired surrogate.") from error
    if b"\\u0000" in text:
        raise InvalidValueException(detail="A text holds the character U+0000.")
    return data


def _depth(data: object) -> int:
    """How deep objects and arrays are nested; no deeper than is refused is looked."""
    level: list[object] = [data]
    for depth in range(MAX_DEPTH + 2):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
        if not level:
            return depth
    return MAX_DEPTH + 1


def read_resource(model: type[R], data: object, *, replacing: bool = False) -> R:
    """The resource that a POST or PUT sends. Raises pydantic's ValidationError, SCIMException."""
    context = Context.RESOURCE_REPLACEMENT_REQUEST if replacing else Context.RESOURCE_CREATION_REQUEST
    body = dict(read_body(data))
    # Read-only, and yet sent: Entra ID has {"resourceType": "User"} there, Okta the groups of a user.
    for name in list(body):
        if name.lower() in ("meta", "groups", "id", "password"):
            del body[name]
    return model.model_validate(body, scim_ctx=context, scim_policy=POLICY)


def read_patch(model: type[R], data: object) -> PatchOp[Any]:
    """The operations of a PATCH. Raises pydantic's ValidationError, SCIMException."""
    body = read_body(data)
    operations = next((value for name, value in body.items() if name.lower() == "operations"), None)
    if isinstance(operations, list) and len(operations) > MAX_OPERATIONS:
        raise InvalidValueException(detail=f"Send at most {MAX_OPERATIONS} operations at a time.")
    patch: Any = PatchOp.__class_getitem__(model)
    return patch.model_validate(body, scim_ctx=Context.RESOURCE_PATCH_REQUEST, scim_policy=POLICY)


def person_of(user: User) -> Person:
    name = user.name or UserName()
    return Person(
        user_name=user.user_name or "",
        external_id=user.external_id or "",
        display_name=user.display_name or "",
        formatted_name=name.formatted or "",
        given_name=name.given_name or "",
        family_name=name.family_name or "",
        emails=tuple(
            {"value": email.value, "type": str(email.type or "work"), "primary": bool(email.primary)}
            for email in user.emails or []
            if email.value
        ),
        active=user.active is not False,
    )


def ids_of(members: Iterable[GroupMember] | None) -> tuple[str, ...]:
    """The ids of a group's members as they were sent. Raises InvalidValueException for one without."""
    ids = tuple(member.value for member in members or ())
    if not all(ids):
        raise InvalidValueException(detail="Each member has a value: the id of a user.")
    return tuple(str(one) for one in ids)


# --- Groups are patched where they are kept: a group may have 10,000 members ---


def group_changes(patch: PatchOp[Any]) -> tuple[dict[str, str], list[MemberChange]]:
    """What a PATCH of a group changes: its texts, and its members in this order. Raises SCIMException."""
    texts: dict[str, str] = {}
    changes: list[MemberChange] = []
    for operation in patch.operations or []:
        how = operation.op.value
        if operation.path:
            pairs = [(str(operation.path), operation.value)]
        else:
            pairs = list(operation.value.items()) if isinstance(operation.value, dict) else []
        for path, value in pairs:
            _read_change(how, path, value, texts, changes)
    return texts, changes


def _read_change(
    how: str, path: str, value: object, texts: dict[str, str], changes: list[MemberChange]
) -> None:
    name = path.removeprefix(f"{Group.__schema__}:").lower()
    if name in GROUP_TEXTS:
        texts[GROUP_TEXTS[name]] = _text(how, path, value)
    elif name == "members" and how == "remove" and value is None:
        changes.append(MemberChange("replace", ()))
    elif name == "members":
        changes.append(MemberChange(how, _member_ids(value)))
    elif name.startswith("members["):
        changes.append(MemberChange(how, (_selected_member(how, path),)))


def _text(how: str, path: str, value: object) -> str:
    if how == "remove" or value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidValueException(detail=f"{path} is a string.")
    return value


def _member_ids(value: object) -> tuple[str, ...]:
    """Of [{"value": id}], of one such object, or of ids alone."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    ids = [one.get("value") if isinstance(one, Mapping) else one for one in listed]
    if not all(isinstance(one, str) and one for one in ids):
        raise InvalidValueException(detail="Each member has a value: the id of a user.")
    return tuple(str(one) for one in ids)


def _selected_member(how: str, path: str) -> str:
    """The id in `members[value eq "id"]`."""
    condition = path[path.index("[") + 1 :].rstrip()
    words = condition.removesuffix("]").split(None, 2)
    quoted = len(words) == 3 and words[2].startswith('"') and words[2].endswith('"')
    if how != "remove" or not quoted or [word.lower() for word in words[:2]] != ["value", "eq"]:
        raise InvalidValueException(detail='Name a member to be removed as members[value eq "id"].')
    return words[2][1:-1]


# --- Writing ---


def user_document(row: ProvisionedUser, active: bool, groups: Iterable[ProvisionedGroup]) -> User:
    name = UserName(
        formatted=row.formatted_name or None,
        family_name=row.family_name or None,
        given_name=row.given_name or None,
    )
    return User(
        id=str(row.pk),
        external_id=row.external_id or None,
        user_name=row.user_name,
        name=name if name != UserName() else None,
        display_name=row.display_name or None,
        active=active,
        emails=[Email.model_validate(email) for email in row.emails] or None,
        groups=[_reference(GroupMembership, group.pk, group.display_name, "direct") for group in groups]
        or None,
        meta=_meta("User", f"Users/{row.pk}", row),
    )


def group_document(row: ProvisionedGroup, members: Iterable[tuple[str, str]] | None) -> Group:
    """`members` as ids and user names."""
    listed = [_reference(GroupMember, one, name, "User") for one, name in members or ()]
    return Group(
        id=str(row.pk),
        external_id=row.external_id or None,
        display_name=row.display_name,
        members=listed or None,
        meta=_meta("Group", f"Groups/{row.pk}", row),
    )


def _reference(model: type[M], value: object, display: str, kind: str) -> M:
    return model.model_validate({"value": str(value), "display": display, "type": kind})


def _meta(kind: str, path: str, row: ProvisionedUser | ProvisionedGroup) -> Meta:
    return Meta(
        resource_type=kind, created=row.created_at, last_modified=row.changed_at, location=location(path)
    )
