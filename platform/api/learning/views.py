"""`/models`: the spaces that come with the product and the tenant's own, and which of them answers searches."""

from __future__ import annotations

import uuid
from typing import Any

from django.http import HttpResponse
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from api.components import page_of
from api.fields import Body, Flag, Text
from api.idempotency import Answer, IdempotentRequest
from api.jobs.views import location
from api.paging import Page, encode_cursor, read_page, refuse_unknown
from api.resource import Resource
from api.schema import IDEMPOTENCY, PAGING
from tenants.accounts.permissions import READ, TRAIN
from tenants.errors import Conflict, Invalid
from tenants.jobs import selectors as jobs
from tenants.learning import promotions, selectors, services, shapes
from tenants.learning.models import LearntModel
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope

# Ids fall from here: the place before the newest row.
NEWEST = uuid.UUID(int=2**128 - 1)
MAX_REASON = 500
MODEL = OpenApiParameter(
    "model_id",
    {"type": "string"},
    OpenApiParameter.PATH,
    description="An id, or the slug of a built-in space.",
)


class Override(Body):
    override = Flag(default=False, help_text="Promote it although it is worse.")
    reason = Text(
        required=False, max_length=MAX_REASON, help_text="Why; goes with an override and is recorded."
    )

    @classmethod
    def reason_in(cls, data: Any) -> str:
        """The reason for an override, empty where none is wanted. Raises ValidationError, Invalid."""
        fields = cls.read(data)
        reason = fields.get("reason", "").strip()
        if fields["override"] != bool(reason):
            raise Invalid("An override goes with a reason, and a reason with an override.", pointer="/reason")
        return reason


class Models(Resource):
    scopes = {"GET": READ}

    @extend_schema(
        summary="List models",
        description="The built-in spaces stand on the first page, before the workspace's own models.",
        parameters=PAGING,
        responses=page_of(shapes.LearntModelShape),
    )
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params)
        page = read_page(request.query_params)
        with tenant_scope(self.tenant_id):
            return Response(_model_page(page))


def _model_page(page: Page) -> dict[str, Any]:
    if page.after is not None:
        return _own_models(page)
    builtin = selectors.list_builtin()[: page.limit]
    room = page.limit - len(builtin)
    if not room:
        more = selectors.list_models().exists()
        return {"results": builtin, "next": encode_cursor(NEWEST) if more else None}
    own = _own_models(Page(None, room))
    return {**own, "results": [*builtin, *own["results"]]}


def _own_models(page: Page) -> dict[str, Any]:
    rows = page.fetch(selectors.list_models().defer("curves"))
    newest = selectors.newest_promotions(row.id for row in rows)
    return page.cut(rows, lambda row: selectors.model_shape(row, newest.get(row.id)))


class ExistingModel(Resource):
    found: selectors.Named

    def find(self, model_id: str) -> selectors.Named:
        return selectors.find_model(model_id)


class OneModel(ExistingModel):
    scopes = {"GET": READ, "DELETE": TRAIN}

    @extend_schema(
        summary="A model with its curves", parameters=[MODEL], responses=shapes.LearntModelWithCurves
    )
    def get(self, request: Request, model_id: str) -> Response:
        with tenant_scope(self.tenant_id):
            return Response(selectors.describe_in_full(self.found))

    @extend_schema(
        summary="Delete a model",
        description=(
            "With its vectors. Not while it answers searches (promote another one, or `rollback`), is trained (cancel "
            "its job) or promoted (`rollback`)."
        ),
        parameters=[MODEL],
        responses={204: None},
        extensions={"x-problems": [409]},
    )
    def delete(self, request: Request, model_id: str) -> Response:
        if not isinstance(self.found, LearntModel):
            raise Conflict("A built-in space cannot be deleted.")
        with tenant_scope(self.tenant_id):
            services.delete_model(model=self.found, actor=self.actor)
        return Response(status=204)


class PromoteModel(ExistingModel):
    scopes = {"POST": TRAIN}

    @extend_schema(
        summary="Let a model answer searches",
        description=(
            "202 with the job that embeds everything beside. Searches are answered as before until it has ended; then "
            "the switch is made, at once and for all. A model that is worse than its parent, or that cannot read a "
            "language that searches are understood in now, is refused (409, `worse-model`, with `reasons`) until it is "
            "sent with an override; where comparing over the workspace's own assets tells so, the promotion stays "
            "`ready` and goes on when this is sent again with an override."
        ),
        parameters=[MODEL, IDEMPOTENCY],
        request={"application/json": Override},
        responses={202: shapes.PromotionAccepted},
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, model_id: str) -> HttpResponse:
        reason = Override.reason_in(request.data)
        if not isinstance(self.found, LearntModel) or self.found.state != LearntModel.State.DRAFT:
            # Files are fetched before any transaction: its own, and those of what answers now.
            model_routing.space(self.found.space, self.tenant_id)
            model_routing.opened_spaces(self.tenant_id)
        return IdempotentRequest(request, {"reason": reason}).run(lambda: self._promote(reason)).response()

    def _promote(self, reason: str) -> Answer:
        row = promotions.promote(model=self.found, override_reason=reason, actor=self.actor)
        job = jobs.get_job(row.job_id)
        body = {
            "model": _describe_space(row.space),
            "promotion": selectors.promotion_shape(row),
            "job": jobs.job_shape(job),
        }
        return Answer.of(202, body, location(job.id))


class RollBackModel(ExistingModel):
    scopes = {"POST": TRAIN}

    @extend_schema(
        summary="Take a promotion back",
        description=(
            "Of the model that answers searches: the one before it answers again, at once. Of one that is being "
            "promoted: the promotion is given up, whether it still embeds or waits for a decision."
        ),
        parameters=[MODEL],
        request=None,
        responses=shapes.RolledBack,
        extensions={"x-problems": [409]},
    )
    def post(self, request: Request, model_id: str) -> Response:
        with tenant_scope(self.tenant_id):
            promotions.roll_back(model=self.found, actor=self.actor)
            return Response(
                {"model": _describe_space(self.found.space), "live": _describe_space(model_routing.live())}
            )


def _describe_space(space: str) -> shapes.LearntModelShape:
    """A model as lists show it, as it stands now."""
    found = selectors.find_model(selectors.public_name(space))
    return selectors.describe(found)
