"""The API against its own OpenAPI document: what fits it and what does not is answered as the document says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, settings
from schemathesis.checks import negative_data_rejection, positive_data_acceptance

from api.docs import document
from tests.api.test_permissions import build_world
from tests.conftest import Party

schema = schemathesis.openapi.from_dict(json.loads(document()))
schema.app = get_wsgi_application()


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# One for each operation, as a tenant may have so many open invitations and no more.
@pytest.fixture
def tenant(make_party: Callable[..., Party]) -> Iterator[Party]:
    return make_party()


def unfit_for(case: Any) -> list[Any]:
    # A schema cannot say which cursors, ids, filters and spans of days there are.
    unfit: list[Any] = [positive_data_acceptance]
    if "/uploads" in case.path:
        # All that is sent are headers, and an unknown header is no fault.
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
def test_answers_conform(case: Any, tenant: Party) -> None:
    if case.path_parameters and sum(map(len, map(str, case.path_parameters.values()))) % 2:
        # Every other call names something that is there.
        world = build_world(tenant, case.path_parameters)
        case.path_parameters = {name: world[name] for name in case.path_parameters}
    answer = case.call_and_validate(
        headers={"Authorization": f"Bearer {tenant.token}"},
        excluded_checks=unfit_for(case),
    )
    assert answer.status_code < 500
