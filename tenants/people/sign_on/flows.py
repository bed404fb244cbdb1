"""One sign-on of one browser: the question, the answer, and that both belong together.

A question is a row that is answered once. Its half of the secret stays in the browser's own session; an answer counts
only in the browser that asked, within ten minutes. A SAML answer is posted by another site, so without the session's
cookie: it is verified and kept, and taken when the same browser comes for it.
"""

from __future__ import annotations

import datetime as dt
import hmac
import json
import secrets as random
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from tenants.accounts import links, vault
from tenants.accounts.models import (
    IdentityProvider,
    SignOnConnection,
    SignOnIdentity,
    SignOnRequest,
    Tenant,
    UsedAssertion,
    User,
)
from tenants.errors import Invalid, NotFound, ServiceError
from tenants.events.services import record
from tenants.people.sign_on import joining, oidc, saml
from tenants.people.sign_on.assertions import Person, Refused
from tenants.people.sign_on.connections import Connection, client_of, get_connection, service_of
from tenants.scope import tenant_scope

LIFETIME = dt.timedelta(minutes=10)
# Metadata that was read from an address is read again after so long.
METADATA_FRESH = dt.timedelta(hours=24)
# When a connection last worked is written down so often.
WORKED_EVERY = dt.timedelta(minutes=1)
PURPOSE, TO_CONFIRM = "question of a sign-on", "sign-on to confirm"
Purpose = SignOnRequest.Purpose
Held = Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """Where to send the browser, whom it finds there, and what its session keeps: the row's id and a secret."""

    url: str
    provider: str
    id: uuid.UUID
    secret: str


@dataclass(frozen=True)
class Outcome:
    """What came of a question: a test's findings, or somebody who may enter or has to confirm first."""

    row: SignOnRequest
    route: SignOnConnection
    person: Person
    entry: joining.Entry | None = None
    role: str = ""


def find_route(connection_id: uuid.UUID, *, enabled: bool = True) -> SignOnConnection:
    """Raises NotFound for one that is not there, not enabled, or of a tenant that is not active."""
    rows = SignOnConnection.objects.select_related("tenant").filter(tenant__state=Tenant.State.ACTIVE)
    route = rows.filter(pk=connection_id, **({"enabled": True} if enabled else {})).first()
    if route is None:
        raise NotFound(_("This single sign-on does not exist."))
    return route


@dataclass(frozen=True)
class Wish:
    """What a question is for: to enter, or whose test or new proof it is; and the page to go on with."""

    purpose: str = Purpose.ENTER
    email: str = ""
    next_page: str = ""
    user: User | None = None


def ask(*, route: SignOnConnection, wish: Wish) -> Question:
    """Begin: a question to the provider. No transaction may be open. Raises Refused, Conflict."""
    again = wish.purpose == Purpose.PROVE
    with tenant_scope(route.tenant_id):
        found = get_connection(route.id)
    drawn = oidc.Secrets(links.new_token(), links.new_token(), random.token_urlsafe(48), again)
    with _noted(route, found.provider):
        url, state = _address(found, drawn, wish)
    browser = links.new_token()
    checks = {"nonce": drawn.nonce, "verifier": drawn.verifier, "state": state}
    with tenant_scope(route.tenant_id):
        row = SignOnRequest.objects.create(
            provider=found.provider,
            purpose=wish.purpose,
            user=wish.user,
            state=links.digest(state),
            browser=links.digest(browser),
            checks=_seal(route, json.dumps(checks).encode()),
            next=wish.next_page[:2000],
            expires_at=timezone.now() + LIFETIME,
        )
    return Question(url, found.provider.name, row.id, browser)


def _address(found: Connection, drawn: oidc.Secrets, wish: Wish) -> tuple[str, str]:
    """Where to send the browser, and what the answer names the question by."""
    if found.by_oidc:
        return oidc.authorization_url(client_of(found.provider), drawn, wish.email), drawn.state
    _renew_metadata(found)
    provider = saml.read_metadata(found.provider.metadata)
    return saml.authentication_url(service_of(found.id), provider, again=drawn.again)


def _renew_metadata(found: Connection) -> None:
    """Read it again after a day; as long as that fails, what was known counts."""
    provider = found.provider
    if not provider.metadata_url or (
        provider.fetched_at and provider.fetched_at > timezone.now() - METADATA_FRESH
    ):
        return
    try:
        text = saml.fetch_metadata(provider.metadata_url)
        if saml.read_metadata(text).entity_id != provider.issuer:
            return
    except Invalid:
        return
    provider.metadata, provider.fetched_at = text, timezone.now()
    with tenant_scope(provider.tenant_id):
        provider.save(update_fields=["metadata", "fetched_at"])


def _bound(purpose: str, route: SignOnConnection) -> bytes:
    return f"{purpose} of {route.tenant_id}".encode()


def _seal(route: SignOnConnection, content: bytes, purpose: str = PURPOSE) -> bytes:
    return vault.seal(content, purpose=_bound(purpose, route), owner=route.tenant_id)


def _unseal(route: SignOnConnection, sealed: bytes | memoryview, purpose: str = PURPOSE) -> bytes:
    """Raises Refused for what was sealed under a key that is not here, or for another tenant."""
    try:
        return vault.unseal(bytes(sealed), purpose=_bound(purpose, route), owner=route.tenant_id)
    except vault.InvalidToken as error:
        raise Refused(_("This sign-in has expired. Start again on the sign-in page.")) from error


# --- The answer ------------------------------------------------------------------------------------------


def finish_oidc(*, route: SignOnConnection, answer: Mapping[str, str], held: Held) -> Outcome:
    """What the browser was sent back with. Raises Refused."""
    row = _claim(route, held, state=answer.get("state", ""))
    with _told(route, row):
        if error := answer.get("error_description") or answer.get("error"):
            raise Refused(_("The provider says: %(why)s") % {"why": _plain(error)})
        if answer.get("iss") not in (None, row.provider.issuer):
            said = _("The answer comes from %(found)s, expected %(expected)s.")
            raise Refused(said % {"found": _plain(answer["iss"]), "expected": row.provider.issuer})
        kept = json.loads(_unseal(route, row.checks))
        drawn = oidc.Secrets(kept["state"], kept["nonce"], kept["verifier"], row.purpose == Purpose.PROVE)
        return _conclude(route, row, oidc.redeem(client_of(row.provider), drawn, answer.get("code", "")))


def receive_saml(*, route: SignOnConnection, encoded: str) -> uuid.UUID:
    """Verify what a provider posted and keep it for the browser that asked; the question's id. Raises Refused."""
    question = saml.question_of(encoded)
    with tenant_scope(route.tenant_id):
        row = _open_requests(route).filter(state=links.digest(question), answer=None).first()
    if row is None:
        raise Refused(
            _("This response matches no pending sign-in: it was used, is too old, or was not requested.")
        )
    with _told(route, row):
        provider = saml.read_metadata(row.provider.metadata)
        rules = saml.Rules(row.provider.email_claim, row.provider.role_claim, row.purpose == Purpose.PROVE)
        answer = saml.verify(service_of(route.id), provider, question, encoded, rules)
        _keep_answer(route, row, answer)
    return row.id


def _keep_answer(route: SignOnConnection, row: SignOnRequest, answer: saml.Answer) -> None:
    sealed = _seal(route, answer.person.to_json())
    try:
        with tenant_scope(route.tenant_id):
            UsedAssertion.objects.create(
                provider=row.provider, assertion=answer.assertion, expires_at=answer.expires_at
            )
            kept = SignOnRequest.objects.filter(pk=row.pk, answer=None, ended_at=None).update(answer=sealed)
    except IntegrityError as error:
        raise Refused(_("This assertion was used before.")) from error
    if not kept:
        raise Refused(_("This assertion was used before."))


def finish_saml(*, route: SignOnConnection, request_id: uuid.UUID, held: Held) -> Outcome:
    """Take the answer that was kept, in the browser that asked. Raises Refused."""
    row = _claim(route, held, request_id=request_id)
    with _told(route, row):
        if row.answer is None:
            raise Refused(_("The provider has not answered yet. Start again on the sign-in page."))
        return _conclude(route, row, Person.from_json(_unseal(route, row.answer)))


def _open_requests(route: SignOnConnection) -> QuerySet[SignOnRequest]:
    rows = SignOnRequest.objects.select_related("provider").filter(provider=route.id, ended_at=None)
    return rows.filter(expires_at__gt=timezone.now())


def _claim(
    route: SignOnConnection, held: Held, *, state: str = "", request_id: uuid.UUID | None = None
) -> SignOnRequest:
    """The open question that this browser asked, which is over with that. Raises Refused."""
    with tenant_scope(route.tenant_id):
        rows = _open_requests(route)
        row = (rows.filter(pk=request_id) if request_id else rows.filter(state=links.digest(state))).first()
        secret = held.get(str(row.pk), "") if row else ""
        if row is None or not hmac.compare_digest(bytes(row.browser), links.digest(secret)):
            raise Refused(
                _("This answer was not requested by this browser, or was used. Start on the sign-in page.")
            )
        if not SignOnRequest.objects.filter(pk=row.pk, ended_at=None).update(ended_at=timezone.now()):
            raise Refused(_("This answer was used before. Start again on the sign-in page."))
    return row


@contextmanager
def _noted(route: SignOnConnection, provider: IdentityProvider) -> Iterator[None]:
    """Writes down why it does not work, for the admins who have to mend it."""
    try:
        yield
    except ServiceError as error:
        with tenant_scope(route.tenant_id):
            details = {"why": error.detail[:1000], "by": provider.name}
            record(actor="", verb="sign_on.refused", target=str(route.id), details=details)
        raise


@contextmanager
def _told(route: SignOnConnection, row: SignOnRequest) -> Iterator[None]:
    """As `_noted`, for an answer; the question is over with it."""
    with _noted(route, row.provider):
        try:
            yield
        except ServiceError:
            with tenant_scope(route.tenant_id):
                SignOnRequest.objects.filter(pk=row.pk).update(ended_at=timezone.now())
            raise


def _plain(text: str) -> str:
    return "".join(sign for sign in text[:300] if sign.isprintable())


def _conclude(route: SignOnConnection, row: SignOnRequest, person: Person) -> Outcome:
    if row.purpose == Purpose.TEST:
        return _report(route, row, person)
    if row.purpose == Purpose.PROVE:
        return _prove(route, row, person)
    entry = joining.enter(route=route, person=person)
    _note_working(route, row.provider)
    if entry.confirm:
        _keep_for_confirmation(route, row, person)
    return Outcome(row, route, person, entry)


def _report(route: SignOnConnection, row: SignOnRequest, person: Person) -> Outcome:
    """What would have happened; nothing is made or changed but that the connection has worked."""
    email = joining.address_of(person)
    with tenant_scope(route.tenant_id):
        joining.check_domain(email)
    _note_working(route, row.provider)
    return Outcome(row, route, person, role=joining.role_for(row.provider, person))


def _prove(route: SignOnConnection, row: SignOnRequest, person: Person) -> Outcome:
    """The person whose session asked is there, as the provider says. Nothing is made or changed."""
    with tenant_scope(route.tenant_id):
        known = SignOnIdentity.objects.filter(provider=row.provider, subject=person.subject, user=row.user)
        if not known.exists():
            raise Refused(_("Another person has signed in at the provider."))
    return Outcome(row, route, person)


def _note_working(route: SignOnConnection, provider: IdentityProvider) -> None:
    """Not again within WORKED_EVERY, and not if it was changed meanwhile."""
    if provider.worked_at is not None and timezone.now() - provider.worked_at < WORKED_EVERY:
        return
    as_asked = {"issuer": provider.issuer, "client_id": provider.client_id, "metadata": provider.metadata}
    with tenant_scope(route.tenant_id):
        IdentityProvider.objects.filter(pk=provider.pk, **as_asked).update(worked_at=timezone.now())


# --- Confirming with a password --------------------------------------------------------------------------


def _keep_for_confirmation(route: SignOnConnection, row: SignOnRequest, person: Person) -> None:
    sealed = _seal(route, person.to_json(), TO_CONFIRM)
    with tenant_scope(route.tenant_id):
        SignOnRequest.objects.filter(pk=row.pk).update(answer=sealed)


def waiting_for_password(*, route: SignOnConnection, request_id: uuid.UUID, held: Held) -> User:
    """Whose password is asked for. Raises Refused when that is over."""
    return _waiting(route, request_id, held)[1]


def _waiting(
    route: SignOnConnection, request_id: uuid.UUID, held: Held
) -> tuple[SignOnRequest, User, Person]:
    with tenant_scope(route.tenant_id):
        rows = SignOnRequest.objects.filter(pk=request_id, provider=route.id, answer__isnull=False)
        row = rows.filter(expires_at__gt=timezone.now(), purpose=Purpose.ENTER).first()
    secret = held.get(str(request_id), "")
    if row is None or not hmac.compare_digest(bytes(row.browser), links.digest(secret)):
        raise Refused(_("This sign-in has expired. Start again on the sign-in page."))
    person = Person.from_json(_unseal(route, row.answer, TO_CONFIRM))
    user = User.objects.filter(email=joining.address_of(person), is_active=True).first()
    if user is None:
        raise Refused(_("This sign-in has expired. Start again on the sign-in page."))
    return row, user, person


def confirm(*, route: SignOnConnection, request_id: uuid.UUID, held: Held, user: User) -> Outcome:
    """Link the account of whoever has just shown its password, and let them in. Raises Refused."""
    row, expected, person = _waiting(route, request_id, held)
    if expected != user:
        raise Refused(_("This sign-in has expired. Start again on the sign-in page."))
    entry = joining.enter(route=route, person=person, confirmed=user)
    with tenant_scope(route.tenant_id):
        SignOnRequest.objects.filter(pk=row.pk).delete()
    return Outcome(row, route, person, entry)


@transaction.atomic
def forget_expired() -> int:
    """Delete the active tenant's questions and used assertions that can come to nothing any more."""
    now = timezone.now()
    ended = SignOnRequest.objects.filter(expires_at__lt=now).delete()[0]
    return ended + UsedAssertion.objects.filter(expires_at__lt=now).delete()[0]
