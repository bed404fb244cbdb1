"""`/saved-searches`: searches under a name, which everybody in the workspace finds."""

from __future__ import annotations

import uuid
from typing import Any, cast

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.auth import key_of
from api.components import page_of
from api.fields import Body, Text
from api.idempotency import Answer, IdempotentRequest
from api.paging import read_page, refuse_unknown
from api.parsers import Form
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from api.search.forms import SearchBody, require_named
from api.search.views import build_query
from tenants.accounts import keys
from tenants.accounts.models import Membership
from tenants.accounts.permissions import MODERATE, SEARCH
from tenants.errors import Invalid
from tenants.retrieval import saved, shapes
from tenants.retrieval.models import SavedSearch
from tenants.scope import tenant_scope


class SavedSearchChange(Body):
    name = Text(required=False, min_length=1, max_length=saved.MAX_NAME)
    query = SearchBody(required=False, help_text="A body of `POST /search`, without `cursor`.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise ValidationError("Send what is to change.")
        return attrs


class NewSavedSearch(Body):
    name = Text(min_length=1, max_length=saved.MAX_NAME)
    query = SearchBody(help_text="A body of `POST /search`, without `cursor`.")


class Saved(Resource):
    """What these resources share."""

    @property
    def who(self) -> saved.Who:
        """A key changes what it saved itself; one that an owner of the workspace made, all that is shared.

        In the tenant's scope.
        """
        maker = keys.maker_of(key_of(self.request).key_id)
        owners = Membership.objects.filter(tenant=self.tenant_id, role="owner")
        return saved.Who(
            self.actor,
            owns_workspace=maker is not None and owners.filter(user=maker).exists(),
            moderates=MODERATE in key_of(self.request).scopes,
        )

    def read(self, body: type[Body], request: Request) -> dict[str, Any]:
        """The fields, with the search as it was sent: it is kept in the words of the API. Raises Invalid, NotFound."""
        sent = cast("dict[str, Any]", request.data)
        try:
            fields = body.read(sent)
            if "query" in fields:
                build_query(fields["query"], Form(fields["query"]))
        except (ValidationError, Invalid):
            if isinstance(sent, dict):
                # What is not there is told before what is wrong.
                require_named(self.tenant_id, sent.get("query"))
            raise
        return {name: sent[name] for name in fields}


class SavedSearches(Saved):
    scopes = {"GET": SEARCH, "POST": SEARCH}

    @extend_schema(
        summary="List saved searches",
        description="Those that are shared. What members keep for themselves no key sees.",
        parameters=PAGING,
        responses=page_of(shapes.SavedSearch),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(page.of(saved.list_saved(self.who), saved.shape_of))

    @extend_schema(
        summary="Save a search",
        description="Everybody who searches in the workspace finds it.",
        parameters=[IDEMPOTENCY],
        request={"application/json": NewSavedSearch},
        responses={201: shapes.SavedSearch},
        extensions={"x-problems": [404, 409]},
    )
    def post(self, request: Request) -> HttpResponse:
        fields = self.read(NewSavedSearch, request)
        return IdempotentRequest(request, fields).run(lambda: self._save(fields)).response()

    def _save(self, fields: dict[str, Any]) -> Answer:
        row = saved.save_search(who=self.who, **fields, shared=True)
        return Answer.of(201, saved.shape_of(row), {"Location": f"/api/v1/saved-searches/{row.id}"})


class OneSavedSearch(Saved):
    scopes = {"GET": SEARCH, "PATCH": SEARCH, "DELETE": SEARCH}
    found: SavedSearch

    def find(self, saved_id: uuid.UUID | None) -> SavedSearch:
        return saved.get_saved(saved_id, self.who)

    @extend_schema(summary="A saved search", responses=shapes.SavedSearch)
    def get(self, request: Request, saved_id: uuid.UUID) -> Response:
        return Response(saved.shape_of(self.found))

    @extend_schema(
        summary="Rename or change a saved search",
        description="By the key that saved it, or one that an owner of the workspace made.",
        request={"application/json": SavedSearchChange},
        responses=shapes.SavedSearch,
    )
    def patch(self, request: Request, saved_id: uuid.UUID) -> Response:
        fields = self.read(SavedSearchChange, request)
        with tenant_scope(self.tenant_id):
            row = saved.change_saved(who=self.who, saved_id=saved_id, **fields)
        return Response(saved.shape_of(row))

    @extend_schema(
        summary="Delete a saved search",
        description="By the key that saved it, or one that an owner of the workspace made.",
        responses={204: None},
    )
    def delete(self, request: Request, saved_id: uuid.UUID) -> Response:
        with tenant_scope(self.tenant_id):
            saved.delete_saved(who=self.who, saved_id=saved_id)
        return Response(status=204)
