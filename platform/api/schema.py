"""The OpenAPI document: drf-spectacular, plus every refusal as a problem."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, cast

from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import ResolvedComponent
from drf_spectacular.utils import OpenApiParameter

from api.paging import DEFAULT_LIMIT, MAX_LIMIT
from api.resource import Resource

HEADER: Final = "header"
IDEMPOTENCY = OpenApiParameter(
    "Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}, HEADER,
    description="The same key and request replay the first answer, for a day.",
)  # fmt: skip
PREFER = OpenApiParameter(
    "Prefer", str, HEADER, description="`wait=N`: answer when the job has ended, after 30 seconds at most."
)
PAGING = [
    OpenApiParameter("cursor", str, description="`next` of the page before."),
    OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    ),
]

PROBLEMS = {
    400: "The body cannot be read.",
    401: "No key, or one that opens nothing.",
    403: "The key lacks the scope, or a quota is used up.",
    404: "Not found, or another tenant's.",
    408: "The body came too slowly.",
    409: "In conflict with what exists, or not ready yet.",
    410: "The cursor has expired.",
    411: "Content-Length is missing.",
    412: "This version of tus is not spoken here.",
    413: "Too large.",
    415: "This kind of body or file is not accepted.",
    422: "Some values are not valid; `errors` names them.",
    423: "Another request is writing.",
    426: "The address is a WebSocket.",
    429: "Over the plan's rate.",
    460: "The bytes do not have that checksum.",
    503: "Not available at the moment.",
    507: "The disk of this installation is full.",
}
ALWAYS = (401, 403, 429, 503)
WITH_BODY = (400, 408, 411, 413, 415, 422)

_STRING = {"type": "string"}
PROBLEM = {
    "type": "object",
    "description": "RFC 9457. Some types have further members.",
    "properties": {
        "type": {**_STRING, "format": "uri", "examples": ["urn:crosslight:problem:missing-scope"]},
        "title": _STRING,
        "status": {"type": "integer"},
        "detail": _STRING,
        "request_id": _STRING,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"pointer": _STRING, "detail": _STRING},
                "required": ["pointer", "detail"],
            },
        },
    },
    "required": ["type", "title", "status", "detail", "request_id"],
}


def choice(name: str, values: Iterable[str]) -> OpenApiParameter:
    return OpenApiParameter(name, {"type": "string", "enum": list(values)})


class ProblemSchema(AutoSchema):
    """Adds the problems that an operation may answer; `x-problems` names those that are its own."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        statuses = {*ALWAYS, *operation.pop("x-problems", ())}
        if _needs_no_key(self.view):
            statuses -= {401, 403}
        places = {parameter["in"] for parameter in operation.get("parameters", ())}
        if "path" in places:
            statuses.add(404)
        if "query" in places:
            statuses.add(422)
        if "requestBody" in operation:
            statuses.update(WITH_BODY)
        for status in sorted(statuses):
            operation["responses"].setdefault(str(status), self._problem(PROBLEMS[status]))
        operation["description"] = self._with_scope(operation.get("description", ""))
        return operation

    def get_operation_id(self) -> str:
        return f"{self.method.lower()}{type(self.view).__name__}"

    def _problem(self, description: str) -> dict[str, object]:
        component = ResolvedComponent("Problem", ResolvedComponent.SCHEMA, schema=PROBLEM, object="Problem")
        self.registry.register_on_missing(component)
        return {
            "description": description,
            "content": {"application/problem+json": {"schema": component.ref}},
        }

    def _with_scope(self, description: str) -> str:
        scope = cast(Resource, self.view).scope_of(self.method)
        needs = f"Needs the scope `{scope}`." if scope else "Any key will do."
        if _needs_no_key(self.view):
            needs = "Needs no key."
        return f"{description}\n\n{needs}".strip()


def _needs_no_key(view: Any) -> bool:
    return not view.permission_classes
