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
#: One of the problems of each status: the slug of its type, its title, and a detail.
SHOWN_PROBLEMS = {
    400: ("malformed", "The request cannot be read", "The body is nested too deeply."),
    401: ("unauthenticated", "A key is needed", "Send Authorization: Bearer <key>."),
    403: (
        "missing-scope",
        "The key may not do this",
        "This key lacks the scope 'write'. Use a key that has it, or make one.",
    ),
    404: ("not-found", "Not found", "There is no such asset."),
    408: (
        "too-slow",
        "The body came too slowly",
        "Send the body at once, or large files in parts (/uploads).",
    ),
    409: (
        "conflict",
        "In conflict with what exists",
        "There is a dataset 'Autumn range' already.",
    ),
    410: ("cursor-expired", "This cursor has expired", "Search again without a cursor."),
    411: (
        "length-required",
        "The length is missing",
        "Send Content-Length; chunked bodies are not accepted.",
    ),
    412: (
        "unsupported-version",
        "This version of tus is not spoken here",
        "Send Tus-Resumable: 1.0.0.",
    ),
    413: ("too-large", "Too large", "The file is larger than this installation accepts."),
    415: ("unsupported-media-type", "This kind of body is not accepted", "Send application/json."),
    422: ("invalid", "Some values are not valid", "A name has 1 to 100 characters."),
    423: ("upload-locked", "Another request is writing", "Wait until it has ended, then ask for the offset."),
    426: (
        "upgrade-required",
        "This address is a WebSocket",
        "Connect to it as a WebSocket, or POST to it for a ticket.",
    ),
    429: ("rate-limited", "Too many requests", "This key may ask again in 12 seconds."),
    460: (
        "checksum-mismatch",
        "The bytes are not those that were sent",
        "Send this part again from the same offset.",
    ),
    503: ("unavailable", "Not available at the moment", "The database does not answer. Try again soon."),
    507: ("storage-full", "There is no room", "The disk of this installation is full."),
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


def _shown_problem(status: int) -> dict[str, object]:
    slug, title, detail = SHOWN_PROBLEMS[status]
    shown = {
        "type": f"urn:crosslight:problem:{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": "01a23818-a968-769f-92bc-3e43124f7647",
    }
    errors = {"errors": [{"pointer": "/name", "detail": detail}]} if status == 422 else {}
    return {**shown, **errors}


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
            operation["responses"].setdefault(str(status), self._problem(status))
        operation["description"] = self._with_scope(operation.get("description", ""))
        return operation

    def _get_examples(
        self, serializer: Any, direction: str, media_type: str, status_code: Any = None, extras: Any = None
    ) -> dict[str, Any]:
        """Those of `api.examples`, where the view names none of its own."""
        own: dict[str, Any] = super()._get_examples(  # type: ignore[no-untyped-call]
            serializer, direction, media_type, status_code, extras
        )
        if own or media_type != "application/json":
            return own
        # Here, as the examples' packages are those of the views, which need this module.
        from api.examples import example_of

        value = example_of(serializer)
        return {} if value is None else {"Example": {"value": value}}

    def get_description(self) -> str:  # type: ignore[override]
        # What `extend_schema` says, or nothing: docstrings of views are for who changes them.
        return ""

    def get_operation_id(self) -> str:
        return f"{self.method.lower()}{type(self.view).__name__}"

    def _problem(self, status: int) -> dict[str, object]:
        component = ResolvedComponent("Problem", ResolvedComponent.SCHEMA, schema=PROBLEM, object="Problem")
        self.registry.register_on_missing(component)
        return {
            "description": PROBLEMS[status],
            "content": {
                "application/problem+json": {
                    "schema": component.ref,
                    "examples": {"Example": {"value": _shown_problem(status)}},
                }
            },
        }

    def _with_scope(self, description: str) -> str:
        scope = cast(Resource, self.view).scope_of(self.method)
        needs = f"Needs the scope `{scope}`." if scope else "Any key will do."
        if _needs_no_key(self.view):
            needs = "Needs no key."
        return f"{description}\n\n{needs}".strip()


def _needs_no_key(view: Any) -> bool:
    return not view.permission_classes
