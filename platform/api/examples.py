"""Examples of the OpenAPI document: what the packages of the API show of what is sent and answered.

Each package says it in its `examples.py`: REQUESTS by the name of a Body, ANSWERS by that of a shape. A shape's
example is its own members; what it inherits and the shapes within it come from theirs.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Final, Union, get_args, get_origin

import msgspec

from api.accounts import examples as accounts
from api.assets import examples as assets
from api.generation import examples as generation
from api.jobs import examples as jobs
from api.learning import examples as learning
from api.moderation import examples as moderation
from api.search import examples as search
from api.transfer import examples as transfer
from api.webhooks import examples as webhooks
from tenants.shapes import Shape

Example = Mapping[str, Any]
_PACKAGES = (accounts, assets, generation, jobs, learning, moderation, search, transfer, webhooks)
REQUESTS: Final[Example] = {name: one for package in _PACKAGES for name, one in package.REQUESTS.items()}
ANSWERS: Final[Example] = {
    "Page": {"next": None},
    **{name: one for package in _PACKAGES for name, one in package.ANSWERS.items()},
}


def example_of(body: Any) -> Mapping[str, Any] | None:
    """Of what an operation is sent or answers: a Body or a shape; None where there is no example of it."""
    kind = body if isinstance(body, type) else type(body)
    if issubclass(kind, Shape):
        return answer_example(kind)
    return REQUESTS.get(kind.__name__)


def answer_example(shape: type[Shape]) -> dict[str, Any] | None:
    """A whole example of a shape; None where one of its required members has none."""
    own: dict[str, Any] = {}
    for base in reversed(shape.__mro__):
        own |= ANSWERS.get(base.__name__, {})
    whole = {}
    for field in msgspec.structs.fields(shape):
        if field.encode_name in own:
            whole[field.encode_name] = own[field.encode_name]
        elif field.required:
            inner = _of(field.type)
            if inner is None:
                return None
            whole[field.encode_name] = inner
    return whole


def _of(annotation: object) -> object:
    """The example of the shape, or of a list of the shape, that an annotation names; else None."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is list:
        inner = _of(args[0])
        return None if inner is None else [inner]
    if origin is Annotated or origin is Union or origin is types.UnionType:
        return next((found for arg in args if (found := _of(arg)) is not None), None)
    if isinstance(annotation, type) and issubclass(annotation, Shape):
        return answer_example(annotation)
    return None
