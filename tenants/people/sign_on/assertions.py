"""What a provider says about a person, whichever protocol it speaks, and why it is not believed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from django.utils.translation import gettext as _

from tenants.errors import ServiceError

MAX_SUBJECT = 500
MAX_VALUES, MAX_VALUE = 500, 300


class Refused(ServiceError):
    """The provider's answer is not taken; `detail` names the step that failed and what was expected."""

    slug, status, title = "sign-on-refused", 422, "Single sign-on did not work"


@dataclass(frozen=True)
class Person:
    """`subject` is the provider's lasting name for the person, `values` are those that roles are given by."""

    subject: str
    email: str
    name: str
    values: tuple[str, ...]

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Person:
        found = json.loads(text)
        return cls(found["subject"], found["email"], found["name"], tuple(found["values"]))


def checked(person: Person) -> Person:
    """Bounded, without what a database or a page cannot hold. Raises Refused."""
    if not person.subject or len(person.subject) > MAX_SUBJECT or not person.subject.isprintable():
        raise Refused(_("The provider does not name the person, or by more than 500 characters."))
    name = "".join(sign for sign in person.name if sign.isprintable())[:150].strip()
    return Person(person.subject, person.email.strip(), name, person.values)


def texts(value: object) -> tuple[str, ...]:
    """The values of a claim or attribute: of a text itself, of a list its texts and numbers."""
    if isinstance(value, str):
        return (value[:MAX_VALUE],)
    if isinstance(value, bool | int):
        return (str(value).lower(),)
    if isinstance(value, Iterable) and not isinstance(value, Mapping | bytes):
        return tuple(str(one)[:MAX_VALUE] for one in list(value)[:MAX_VALUES] if isinstance(one, str | int))
    return ()
