"""`/members` and `/invitations`: the people of the tenant. A key reaches as far as an admin: never to owners."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.paths import read_id
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts import keys, shapes
from tenants.accounts.models import Invitation, Membership
from tenants.accounts.permissions import ADMIN, Actor
from tenants.datasets.selectors import list_datasets
from tenants.errors import Invalid
from tenants.people import invitations, members, narrowing
from tenants.scope import Narrowing, tenant_scope


class Narrowed(Body):
    """What somebody sees of the workspace; the service says which roles can be narrowed."""

    datasets = serializers.ListField(
        child=Text(max_length=36),
        required=False,
        allow_null=True,
        max_length=narrowing.MOST_DATASETS,
        help_text="The datasets that the person sees, by id. Null: all.",
    )
    queues = serializers.ListField(
        child=Text(max_length=narrowing.MAX_QUEUE),
        required=False,
        allow_null=True,
        max_length=narrowing.MOST_QUEUES,
        help_text="The review queues that the person sees, by name. Null: all.",
    )


class NewInvitation(Narrowed):
    email = Text(max_length=254)
    role = Text(min_length=1, max_length=40)


class MemberChanges(Narrowed):
    role = Text(required=False, min_length=1, max_length=40)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Send what is to change.")
        return attrs


def read_datasets(fields: Mapping[str, Any]) -> tuple[uuid.UUID, ...] | None:
    """The datasets that are named, in the tenant's scope. Raises Invalid for one that it does not have."""
    named = fields.get("datasets")
    if named is None:
        return None
    ids = [read_id(one) for one in named]
    known = set(list_datasets().filter(pk__in=[one for one in ids if one]).values_list("pk", flat=True))
    for place, one in enumerate(ids):
        if one not in known:
            raise Invalid("This dataset does not exist.", f"/datasets/{place}")
    return tuple(one for one in ids if one)


def read_narrowing(fields: Mapping[str, Any], before: Membership | None = None) -> Narrowing | None:
    """What they are to see; what is not named stays as it was `before`."""
    datasets, queues = read_datasets(fields), fields.get("queues")
    if before is not None and "datasets" not in fields and before.datasets is not None:
        datasets = tuple(before.datasets)
    if before is not None and "queues" not in fields:
        queues = before.queues
    if datasets is None and queues is None:
        return None
    return Narrowing(datasets, None if queues is None else tuple(queues))


def as_member(user: Any) -> dict[str, Any]:
    """A row of `members.list_people`."""
    return {
        "id": str(user.id),
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "second_factor": user.second_factor_on,
        "since": user.since,
        **sees(user),
    }


def as_invitation(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": str(invitation.id),
        "email": invitation.email,
        "role": invitation.role,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
        "mailed_at": invitation.mailed_at,
        **sees(invitation),
    }


def sees(row: Any) -> dict[str, Any]:
    """Of a row with `datasets` and `queues`."""
    return {
        "datasets": None if row.datasets is None else [str(one) for one in row.datasets],
        "queues": row.queues,
    }


class People(Resource):
    """What these resources share."""

    def acting(self) -> Actor:
        """The key, in the name of whoever made it. In the tenant's scope."""
        maker = keys.maker_of(key_of(self.request).key_id)
        return Actor(self.actor, "admin", maker.pk if maker else None)


class Members(People):
    scopes = {"GET": ADMIN}

    @extend_schema(summary="List members", parameters=PAGING, responses=page_of(shapes.Member))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(members.list_people(), as_member))


class OneMember(People):
    scopes = {"PATCH": ADMIN, "DELETE": ADMIN}

    def find(self, member_id: uuid.UUID | None) -> Membership:
        return members.get_member(member_id)

    @extend_schema(
        summary="Change a member's role, or what they see",
        description=(
            "What is not named stays. Who sees chosen datasets or queues only is shut out of everything else, and the "
            "API keys that they made end; owners and admins see everything."
        ),
        request={"application/json": MemberChanges},
        responses=shapes.Member,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, member_id: uuid.UUID) -> Response:
        fields = MemberChanges.read(request.data)
        with tenant_scope(self.tenant_id):
            if "role" in fields:
                members.change_role(actor=self.acting(), user_id=member_id, role=fields["role"])
            if "datasets" in fields or "queues" in fields:
                to = read_narrowing(fields, members.get_member(member_id))
                narrowing.narrow_member(actor=self.acting(), user_id=member_id, to=to)
            return Response(as_member(members.list_people().get(pk=member_id)))

    @extend_schema(
        summary="Remove a member",
        description="Ends access at once, and the API keys that the person made in this tenant.",
        responses={204: None},
        extensions={"x-problems": [409]},
    )
    def delete(self, request: Request, member_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            members.remove_member(actor=self.acting(), user_id=member_id)
        return Response(status=204)


class Invitations(People):
    scopes = {"GET": ADMIN, "POST": ADMIN}

    @extend_schema(summary="List open invitations", parameters=PAGING, responses=page_of(shapes.Invitation))
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(invitations.list_invitations(), as_invitation))

    @extend_schema(
        summary="Invite an address",
        description=(
            "Where the installation sends e-mail the link goes to the address and `link` is null. "
            "Otherwise it is shown in this answer only; a replay of it has `link: null`."
        ),
        parameters=[IDEMPOTENCY],
        request={"application/json": NewInvitation},
        responses={201: shapes.NewInvitation},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = NewInvitation.read(request.data)
        idempotent = IdempotentRequest(request, cast("dict[str, Any]", request.data))
        return idempotent.run(lambda: self._create(fields)).response()

    def _create(self, fields: dict[str, Any]) -> Answer:
        named = {name: fields[name] for name in ("email", "role")}
        invited = invitations.invite(actor=self.acting(), **named, to=read_narrowing(fields))
        body = {**as_invitation(invited.invitation), "link": invited.link or None}
        return Answer.of(201, body, withheld="link")


class InvitationLink(People):
    scopes = {"POST": ADMIN}

    def find(self, invitation_id: uuid.UUID | None) -> Invitation:
        return invitations.get_invitation(invitation_id)

    @extend_schema(
        summary="Make a new link for an invitation",
        description=(
            "The link before opens nothing any more, and the invitation lasts seven days from now. Where the "
            "installation sends e-mail the link goes to the address and `link` is null. Otherwise it is shown in this "
            "answer only; a replay of it has `link: null`."
        ),
        parameters=[IDEMPOTENCY],
        request=None,
        responses={201: shapes.NewInvitation},
        extensions={"x-problems": [422]},
    )
    def post(self, request: Request, invitation_id: uuid.UUID) -> HttpResponse:
        return IdempotentRequest(request, {}).run(lambda: self._renew(invitation_id)).response()

    def _renew(self, invitation_id: uuid.UUID) -> Answer:
        invited = invitations.renew_link(actor=self.acting(), invitation_id=invitation_id)
        body = {**as_invitation(invited.invitation), "link": invited.link or None}
        return Answer.of(201, body, withheld="link")


class OneInvitation(People):
    scopes = {"DELETE": ADMIN}

    def find(self, invitation_id: uuid.UUID | None) -> Invitation:
        return invitations.get_invitation(invitation_id)

    @extend_schema(summary="Revoke an invitation", responses={204: None})
    def delete(self, request: Request, invitation_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            invitations.revoke_invitation(actor=self.acting(), invitation_id=invitation_id)
        return Response(status=204)
