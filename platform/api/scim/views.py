"""The endpoints of SCIM: Users, Groups and what describes them (RFC 7644)."""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import singledispatch
from math import inf
from typing import Any, cast

from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from pydantic import ValidationError
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from scim2_models import (
    Context,
    Error,
    InvalidValueException,
    ListResponse,
    ResponseParameters,
    SCIMException,
)
from scim2_models import Resource as ScimObject

from api.parsers import LimitedJSONParser
from api.problems import Problem, Refusal, problem_of
from api.rendering import Renderer, to_json
from api.resource import Resource, rate_exceeded
from api.scim import documents, filters
from api.scim.documents import Group, User
from tenants import observe
from tenants.accounts import metering
from tenants.accounts.api_admission import Rate, left_of_window
from tenants.accounts.permissions import Actor
from tenants.accounts.rate_counter import Limits, rate_counter
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound, ServiceError
from tenants.people.models import ProvisionedGroup, ProvisionedMember, ProvisionedUser
from tenants.people.provisioning import directory, tokens
from tenants.people.provisioning.tokens import Bearer
from tenants.scope import tenant_scope
from tenants.valkey import Unavailable

log = logging.getLogger(__name__)
CONTENT_TYPE = "application/scim+json"
ADMISSION = "crosslight.scim_counted"


class ScimParser(LimitedJSONParser):
    media_type = CONTENT_TYPE


class ScimRenderer(Renderer):
    media_type = CONTENT_TYPE


_RENDERER = ScimRenderer()


class TokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <provisioning token>`; sets `request.auth` to the Bearer. API keys open nothing here."""

    def authenticate(self, request: Request) -> tuple[Bearer, Bearer] | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        bearer = tokens.identify(token.strip())
        if bearer is None:
            raise AuthenticationFailed
        observe.tenant_id.set(str(bearer.tenant_id))
        return bearer, bearer

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="scim"'


class HasToken(BasePermission):
    def has_permission(self, request: Request, view: object) -> bool:
        return request.auth is not None


# --- Errors (RFC 7644, section 3.12) ---


def error_response(error: Exception) -> HttpResponse:
    """The answer to anything that a view raised, as SCIM has it."""
    document, headers = _error_of(error)
    body = to_json(document.model_dump())
    return HttpResponse(
        body,
        status=int(document.status or 500),
        content_type=CONTENT_TYPE,
        headers={"Cache-Control": "no-store", **headers},
    )


@singledispatch
def _error_of(error: Exception) -> tuple[Error, dict[str, str]]:
    problem: Problem = problem_of(error)
    document = Error(status=problem.status, detail=problem.detail)
    if problem.status == 400:
        document.scim_type = "invalidSyntax"
    return document, problem.headers


@_error_of.register
def _(error: SCIMException) -> tuple[Error, dict[str, str]]:
    return error.to_error(), {}


@_error_of.register
def _(error: ValidationError) -> tuple[Error, dict[str, str]]:
    return Error.from_validation_errors(error)[0], {}


@_error_of.register
def _(error: ServiceError) -> tuple[Error, dict[str, str]]:
    kinds: dict[type[ServiceError], tuple[int, str | None]] = {
        Invalid: (400, "invalidValue"),
        Conflict: (409, "uniqueness"),
        NotAllowed: (403, None),
        NotFound: (404, None),
    }
    for kind, (status, scim_type) in kinds.items():
        if isinstance(error, kind):
            return Error(status=status, scim_type=scim_type, detail=error.detail), {}
    problem = problem_of(error)
    return Error(status=problem.status, detail=problem.detail), problem.headers


@csrf_exempt  # so that every method is told that there is nothing here
def unknown_address(request: HttpRequest, rest: str = "") -> HttpResponse:
    return error_response(NotFound("There is nothing at this address."))


# --- Views ---


class ScimResource(Resource):
    """An endpoint of SCIM: key, rate, path, body, as everywhere; but tokens, errors and media type are its own."""

    authentication_classes = [TokenAuthentication]
    permission_classes = [HasToken]
    parser_classes = [ScimParser, LimitedJSONParser]
    schema = None

    @property
    def bearer(self) -> Bearer:
        return cast(Bearer, self.request.auth)

    @property
    def tenant_id(self) -> uuid.UUID:
        return self.bearer.tenant_id

    @property
    def who(self) -> Actor:
        return self.bearer.actor

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        return _RENDERER, CONTENT_TYPE

    def get_exception_handler(self) -> Callable[[Exception, dict[str, object]], HttpResponse]:
        return lambda error, context: error_response(error)

    def check_throttles(self, request: Request) -> None:
        """Count the request with those of keys; the month's requests are not asked about, so that who leaves is out."""
        limit = self.bearer.rate_per_minute
        if ADMISSION in request.META:
            return
        request.META[ADMISSION] = True
        try:
            counts = rate_counter.request(
                str(self.tenant_id), metering.this_moment(), Limits(inf if limit is None else limit)
            )
        except Unavailable:
            return
        if limit is not None and counts.rate > limit:
            raise Refusal(rate_exceeded(Rate(limit, limit - counts.rate, left_of_window())))

    def answer(self, resource: ScimObject[Any], context: Context, status: int = 200) -> Response:
        dumped = resource.model_dump(scim_ctx=context, response_parameters=self._wanted(type(resource)))
        headers = {"Location": str(resource.meta.location)} if status == 201 and resource.meta else None
        return Response(dumped, status=status, headers=headers)

    def _wanted(self, model: type[ScimObject[Any]]) -> ResponseParameters[Any]:
        """`attributes` and `excludedAttributes` of the query. Raises ValidationError."""
        named = {
            "attributes": self.request.query_params.get("attributes"),
            "excluded_attributes": self.request.query_params.get("excludedAttributes"),
        }
        read: Any = ResponseParameters.__class_getitem__(model)
        return read.model_validate({name: value for name, value in named.items() if value})

    def listed(
        self,
        model: type[ScimObject[Any]],
        page: Page,
        total: int,
        resources: list[Any],
    ) -> Response:
        wanted = self._wanted(model)
        shown = [
            one.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=wanted)
            for one in resources
        ]
        answer = ListResponse.__class_getitem__(model)(
            total_results=total, start_index=page.start, items_per_page=len(shown)
        ).model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE)
        return Response({**answer, "Resources": shown})


@dataclass(frozen=True)
class Page:
    """Which part of a list is wanted: from the 1-based `start`, at most `count` (RFC 7644, section 3.4.2.4)."""

    start: int
    count: int

    def of(self, rows: QuerySet) -> list[Any]:
        return list(rows[self.start - 1 : self.start - 1 + self.count]) if self.count else []


def read_page(query: Any) -> Page:
    """Raises InvalidValueException."""
    start = _number(query.get("startIndex", "1"), "startIndex")
    count = _number(query.get("count", "100"), "count")
    return Page(max(1, start), min(documents.MAX_RESULTS, max(0, count)))


def _number(text: str, name: str) -> int:
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdigit() or len(digits) > 9:
        raise InvalidValueException(detail=f"{name} is a whole number.")
    return int(text)


class Users(ScimResource):
    def get(self, request: Request) -> Response:
        page = read_page(request.query_params)
        wanted = request.query_params.get("filter")
        with tenant_scope(self.tenant_id):
            rows = directory.list_people()
            if wanted is not None:
                rows = rows.filter(filters.condition(User, filters.USER, wanted)).distinct()
            total = rows.count()
            return self.listed(User, page, total, users_as_documents(page.of(rows)))

    def post(self, request: Request) -> Response:
        sent = documents.read_resource(User, request.data)
        with tenant_scope(self.tenant_id):
            row = directory.create_person(actor=self.who, person=documents.person_of(sent))
            document = users_as_documents([row])[0]
        return self.answer(document, Context.RESOURCE_CREATION_RESPONSE, 201)


class OneUser(ScimResource):
    found: ProvisionedUser

    def find(self, person_id: uuid.UUID | None) -> ProvisionedUser:
        return directory.get_person(person_id)

    def get(self, request: Request, person_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            document = users_as_documents([self.found])[0]
        return self.answer(document, Context.RESOURCE_QUERY_RESPONSE)

    def put(self, request: Request, person_id: uuid.UUID) -> Response:
        sent = documents.read_resource(User, request.data, replacing=True)
        return self._replace(sent, Context.RESOURCE_REPLACEMENT_RESPONSE)

    def patch(self, request: Request, person_id: uuid.UUID) -> Response:
        patch = documents.read_patch(User, request.data)
        with tenant_scope(self.tenant_id):
            document = users_as_documents([self.found])[0]
        patch.patch(document, scim_policy=documents.POLICY)
        return self._replace(document, Context.RESOURCE_PATCH_RESPONSE)

    def _replace(self, sent: User, context: Context) -> Response:
        with tenant_scope(self.tenant_id):
            row = directory.replace_person(
                actor=self.who, person_id=self.found.pk, person=documents.person_of(sent)
            )
            document = users_as_documents([row])[0]
        return self.answer(document, context)

    def delete(self, request: Request, person_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            directory.delete_person(actor=self.who, person_id=self.found.pk)
        return Response(status=204)


def users_as_documents(rows: list[Any]) -> list[User]:
    """In the tenant's scope; of rows of `directory.list_people`."""
    groups: dict[uuid.UUID, list[ProvisionedGroup]] = defaultdict(list)
    places = ProvisionedMember.objects.filter(person__in=[row.pk for row in rows]).select_related("group")
    for place in places.order_by("group_id"):
        groups[place.person_id].append(place.group)
    return [documents.user_document(row, row.active, groups[row.pk]) for row in rows]


class Groups(ScimResource):
    def get(self, request: Request) -> Response:
        page = read_page(request.query_params)
        wanted = request.query_params.get("filter")
        with_members = self._with_members()
        if with_members:
            page = Page(page.start, min(page.count, documents.MAX_GROUPS_WITH_MEMBERS))
        with tenant_scope(self.tenant_id):
            rows = directory.list_groups()
            if wanted is not None:
                rows = rows.filter(filters.condition(Group, filters.GROUP, wanted)).distinct()
            total = rows.count()
            shown = groups_as_documents(page.of(rows), with_members=with_members)
        return self.listed(Group, page, total, shown)

    def _with_members(self) -> bool:
        """Whether the answer names members: by default it does."""
        query = self.request.query_params
        named = [one.strip().lower() for one in query.get("attributes", "").split(",") if one.strip()]
        without = [one.strip().lower() for one in query.get("excludedAttributes", "").split(",")]
        return (not named or any(one.startswith("members") for one in named)) and "members" not in without

    def post(self, request: Request) -> Response:
        sent = documents.read_resource(Group, request.data)
        with tenant_scope(self.tenant_id):
            row = directory.create_group(
                actor=self.who,
                display_name=sent.display_name or "",
                external_id=sent.external_id or "",
                people=documents.ids_of(sent.members),
            )
            document = groups_as_documents([row])[0]
        return self.answer(document, Context.RESOURCE_CREATION_RESPONSE, 201)


class OneGroup(ScimResource):
    found: ProvisionedGroup

    def find(self, group_id: uuid.UUID | None) -> ProvisionedGroup:
        return directory.get_group(group_id)

    def get(self, request: Request, group_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            document = groups_as_documents([self.found])[0]
        return self.answer(document, Context.RESOURCE_QUERY_RESPONSE)

    def put(self, request: Request, group_id: uuid.UUID) -> Response:
        sent = documents.read_resource(Group, request.data, replacing=True)
        texts = {"display_name": sent.display_name or "", "external_id": sent.external_id or ""}
        changes = [directory.MemberChange("replace", documents.ids_of(sent.members))]
        return self._change(texts, changes, Context.RESOURCE_REPLACEMENT_RESPONSE)

    def patch(self, request: Request, group_id: uuid.UUID) -> Response:
        texts, changes = documents.group_changes(documents.read_patch(Group, request.data))
        return self._change(texts, changes, Context.RESOURCE_PATCH_RESPONSE)

    def _change(
        self, texts: dict[str, str], changes: Iterable[directory.MemberChange], context: Context
    ) -> Response:
        with tenant_scope(self.tenant_id):
            row = directory.change_group(actor=self.who, group_id=self.found.pk, changes=changes, **texts)
            document = groups_as_documents([row])[0]
        return self.answer(document, context)

    def delete(self, request: Request, group_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            directory.delete_group(actor=self.who, group_id=self.found.pk)
        return Response(status=204)


def groups_as_documents(rows: list[ProvisionedGroup], *, with_members: bool = True) -> list[Group]:
    """In the tenant's scope."""
    members: dict[uuid.UUID, list[tuple[str, str]]] = defaultdict(list)
    if with_members:
        places = ProvisionedMember.objects.filter(group__in=[row.pk for row in rows]).order_by("person_id")
        for group_id, person_id, name in places.values_list("group_id", "person_id", "person__user_name"):
            members[group_id].append((str(person_id), name))
    return [documents.group_document(row, members[row.pk]) for row in rows]


# --- What the service is (RFC 7644, section 4) ---


class Configuration(ScimResource):
    def get(self, request: Request) -> Response:
        return Response(documents.configuration())


class Described(ScimResource):
    """Resource types, or schemas: all of them, or the one of this name."""

    described: Callable[[], list[Any]]

    def get(self, request: Request, name: str = "") -> Response:
        if "filter" in request.query_params:
            # RFC 7644, section 4.
            raise NotAllowed("These cannot be filtered.")
        known = type(self).described()
        if name:
            for one in known:
                if name in (one.id, getattr(one, "name", None)):
                    return Response(one.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE))
            raise NotFound("There is nothing at this address.")
        return self.listed(type(known[0]), Page(1, len(known)), len(known), known)

    def find(self, name: str = "") -> None:
        """Not a tenant's."""


class ResourceTypes(Described):
    described = staticmethod(documents.resource_types)


class Schemas(Described):
    described = staticmethod(documents.schemas)
