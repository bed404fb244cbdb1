"""The API against its own OpenAPI document: what fits it and what does not is answered as the document says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from api.docs import document
from tests.api.test_permissions import build_world
from tests.conftest import Party

pytestmark = pytest.mark.guard

schema = schemathesis.openapi.from_dict(json.loads(document()))
application = get_wsgi_application()


def closing(environ: dict[str, Any], start_response: Any) -> Any:
    """The application, with answers closed as servers do: files of requests are, with them."""
    answer = application(environ, start_response)
    if answer.streaming:
        return answer
    try:
        return list(answer)
    finally:
        answer.close()


schema.app = closing


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.serializer("application/x-ndjson")
def as_line(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


class World:
    """A tenant of an operation, as it may have so many open invitations and no more, and what its routes can name."""

    def __init__(self, party: Party) -> None:
        self.party = party
        self.made: dict[str, str] = {}

    def named(self, names: Iterable[str]) -> dict[str, str]:
        self.made |= build_world(self.party, [name for name in names if name not in self.made])
        return {name: self.made[name] for name in names}

    def is_used_up(self, names: dict[str, str], method: str, status: int) -> bool:
        """Whether a call has named what is gone or has come to its end, so that the next one needs another."""
        return names.items() <= self.made.items() and (method == "DELETE" or status in (404, 409, 410))


@pytest.fixture
def world(make_party: Callable[..., Party]) -> World:
    return World(make_party())


@pytest.fixture(autouse=True)
def constants(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The same examples whatever else is imported: Hypothesis draws constants of all sources that it sees."""
    monkeypatch.setattr(providers, "_get_local_constants", providers.Constants)
    providers.CONSTANTS_CACHE.cache.clear()
    yield
    providers.CONSTANTS_CACHE.cache.clear()


def unfit_for(case: Any) -> list[Any]:
    # A schema cannot say which cursors, ids, filters and spans of days there are.
    unfit: list[Any] = [positive_data_acceptance]
    if "/uploads" in case.path or case.path.endswith("/stream"):
        # All that is sent are headers, and an unknown header is no fault; lines are answered one by one, by the edge.
        unfit.append(negative_data_rejection)
    sent = case.body.values() if isinstance(case.body, dict) else ()
    if case.media_type == "multipart/form-data" and any(not isinstance(one, str | bytes) for one in sent):
        # A field of a form is text, whatever it was before it was written there.
        unfit.append(negative_data_rejection)
    return unfit


@pytest.mark.slow
@schema.parametrize()
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
def test_answers_conform(case: Any, world: World) -> None:
    if case.path_parameters and sum(map(len, map(str, case.path_parameters.values()))) % 2:
        # Every other call names something that is there.
        case.path_parameters = world.named(case.path_parameters)
    answer = case.call_and_validate(
        headers={"Authorization": f"Bearer {world.party.token}"},
        excluded_checks=unfit_for(case),
    )
    if world.is_used_up(case.path_parameters or {}, case.method, answer.status_code):
        world.made.clear()
    assert answer.status_code < 500
