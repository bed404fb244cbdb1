"""`/members` and `/invitations`: the people of the tenant. A key reaches as far as an admin: never to owners."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts import keys, shapes
from tenants.accounts.models import Invitation, Membership
from tenants.accounts.permissions import ADMIN, Actor
from tenants.people import invitations, members
from tenants.scope import tenant_scope


class NewInvitation(Body):
    email = Text(max_length=254)
    role = Text(min_length=1, max_length=40)


class MemberChanges(Body):
    role = Text(min_length=1, max_length=40)


def as_member(user: Any) -> dict[str, Any]:
    """A row of `members.list_people`."""
    return {
        "id": str(user.id),
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "second_factor": user.second_factor_on,
        "since": user.since,
    }


def as_invitation(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": str(invitation.id),
        "email": invitation.email,
        "role": invitation.role,
        "created_at": invitation.created_at,
        "expires_at": invitation.expires_at,
        "mailed_at": invitation.mailed_at,
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
        summary="Change a member's role",
        request={"application/json": MemberChanges},
        responses=shapes.Member,
        extensions={"x-problems": [409]},
    )
    def patch(self, request: Request, member_id: uuid.UUID) -> Response:
        role = MemberChanges.read(request.data)["role"]
        with tenant_scope(self.tenant_id):
            members.change_role(actor=self.acting(), user_id=member_id, role=role)
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
        invited = invitations.invite(actor=self.acting(), **fields)
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
