"""Answers that are given once: the same Idempotency-Key and request replay the first answer, byte for byte."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any, cast

from django.db import transaction
from django.http import HttpResponse
from rest_framework.request import Request

from api.auth import key_of
from api.rendering import to_json
from tenants.datasets.storage import digest
from tenants.errors import Invalid
from tenants.events.services import first_answer, store_answer
from tenants.scope import tenant_scope
from tenants.shapes import JsonObject, plain

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True)
class Answer:
    """A rendered answer; `kept` is the text to store where the given one holds a secret."""

    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict)
    kept: str | None = None
    replayed: bool = False

    @classmethod
    def of(
        cls, status: int, body: object, headers: Mapping[str, str] | None = None, withheld: str = ""
    ) -> Answer:
        """`withheld`: the member that the stored answer has as null."""
        kept = render({**cast("JsonObject", plain(body)), withheld: None}) if withheld else None
        return cls(status, render(body), dict(headers or {}), kept)

    def response(self) -> HttpResponse:
        return HttpResponse(
            self.text, status=self.status, content_type="application/json", headers=self.headers
        )


def render(body: object) -> str:
    return to_json(body).decode()


class IdempotentRequest:
    """One creating request: runs it in one transaction with its stored answer, or replays that."""

    def __init__(
        self, request: Request, fields: Mapping[str, Any], files: Mapping[str, IO[bytes]] | None = None
    ) -> None:
        self.tenant_id = uuid.UUID(key_of(request).tenant_id)
        self.key = read_key(request)
        self.fingerprint = _fingerprint(request, fields, files or {}) if self.key else ""

    def run(self, act: Callable[[], Answer]) -> Answer:
        """The answer of `act`, or the first answer. What `act` queues on commit happens after this returns."""
        with tenant_scope(self.tenant_id):
            earlier = self._stored_answer()
            if earlier is not None:
                return earlier
            answer = act()
            if self.key:
                self._store(answer)
            return answer

    def replay(self) -> Answer | None:
        """The first answer if there is one, for requests that have work to do before `run`."""
        with tenant_scope(self.tenant_id):
            found = self._stored_answer()
            if found is None:
                # The key is reserved with the answer, in `run`.
                transaction.set_rollback(True)
            return found

    def _stored_answer(self) -> Answer | None:
        stored = first_answer(key=self.key, fingerprint=self.fingerprint) if self.key else None
        if stored is None:
            return None
        headers = {**stored.headers, "Idempotent-Replayed": "true"}
        return Answer(stored.status, stored.body, headers, replayed=True)

    def replace(self, answer: Answer) -> Answer:
        """Keep a later answer instead of the first: what the client is told after it waited."""
        if self.key:
            with tenant_scope(self.tenant_id):
                self._store(answer)
        return answer

    def _store(self, answer: Answer) -> None:
        # As text: the database's JSON type forgets the order of keys.
        body = answer.text if answer.kept is None else answer.kept
        store_answer(key=self.key, status=answer.status, body=body, headers=answer.headers)


def read_key(request: Request) -> str:
    """The key that was sent, "" for none. Raises Invalid."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return ""
    if not _KEY.fullmatch(key):
        raise Invalid("An Idempotency-Key has 1 to 255 visible ASCII characters.", pointer="/Idempotency-Key")
    return key


def _fingerprint(request: Request, fields: Mapping[str, object], files: Mapping[str, IO[bytes]]) -> str:
    parts = [str(request.method), request.path, json.dumps(fields, sort_keys=True, default=str)]
    parts += [f"{name}={digest(files[name])[0]}" for name in sorted(files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
