"""Letters: what the tasks send, what happens while the mail server is away, and where the server is read from."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import smtplib
from pathlib import Path
from typing import Any

import pytest
from celery.exceptions import Retry
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.utils import timezone

from config.mail import MailServer, mail_server
from config.settings import ROOT
from standalone import catalogue
from tenants.accounts import mail as writer
from tenants.accounts.models import Invitation, Letter, OperatorRequest, Tenant, User
from tenants.accounts.permissions import Actor
from tenants.events import notices
from tenants.events.models import Webhook
from tenants.people import invitations, letters
from tenants.scope import tenant_scope
from tests.conftest import Party
from workers import tasks


@pytest.fixture
def invitation(party: Party) -> Invitation:
    email = f"n-{secrets.token_hex(6)}@people.example"
    with tenant_scope(party.id):
        return invitations.invite(actor=Actor("key:x", "admin"), email=email, role="viewer").invitation


def test_the_tasks_send_to_the_address_that_they_are_about(invitation: Invitation, party: Party) -> None:
    sent = len(mail.outbox)
    tasks.mail_invitation.run(str(invitation.pk))
    tasks.mail_reset.run(party.owner.email)
    assert [letter.to for letter in mail.outbox[sent:]] == [[invitation.email], [party.owner.email]]
    assert Invitation.objects.get(pk=invitation.pk).mailed_at is not None
    Invitation.objects.filter(pk=invitation.pk).update(revoked_at=invitation.created_at)
    tasks.mail_invitation.run(str(invitation.pk))
    assert len(mail.outbox) == sent + 2


@pytest.mark.parametrize("error", [ConnectionRefusedError(), smtplib.SMTPServerDisconnected()])
def test_a_mail_server_that_is_away_is_tried_again(
    error: Exception, invitation: Invitation, monkeypatch: Any
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    again: list[Exception] = []

    def retry(exc: Exception, **options: Any) -> Retry:
        again.append(exc)
        return Retry(exc=exc)

    monkeypatch.setattr("tenants.accounts.mail.send_mail", fail)
    monkeypatch.setattr(tasks.mail_invitation, "retry", retry)
    with pytest.raises(Retry):
        tasks.mail_invitation.run(str(invitation.pk))
    assert again == [error]
    assert Invitation.objects.get(pk=invitation.pk).mailed_at is None


def test_reset_links_name_this_installation_and_nobody_elses(party: Party, settings: Any) -> None:
    settings.BASE_URL = "https://search.example"
    sent = len(mail.outbox)
    tasks.mail_reset.run(User.objects.get(pk=party.owner.pk).email)
    assert "https://search.example/reset/new?token=" in mail.outbox[sent].body


# --- In the language of who reads them ---

CHINESE = re.compile("[\u4e00-\u9fff]")
END = dt.datetime(2031, 5, 17, 9, 30, tzinfo=dt.UTC)


def of_upkeep(kind: str, **details: str) -> Any:
    def post(party: Party) -> list[str]:
        Letter.objects.filter(done_at=None).update(done_at=timezone.now())
        Tenant.objects.filter(pk=party.id).update(trial_ends_at=END, closes_at=END)
        users = [party.owner.pk]
        letters.write(
            tenant=party.tenant, users=users, kind=kind, about=secrets.token_hex(4), details=details
        )
        letters.send_due()
        Tenant.objects.filter(pk=party.id).update(trial_ends_at=None, closes_at=None)
        shown = ["2031-05-17 09:30" if value == END.isoformat() else value for value in details.values()]
        return [party.tenant.name, *shown]

    return post


def invitation_to(party: Party) -> list[str]:
    person = f"Ann {secrets.token_hex(4)}"
    writer.send_invitation(
        email=party.owner.email, inviter=person, workspace="Orchard", until=END, link="https://a.example/x"
    )
    return [person, "Orchard", "2031-05-17 09:30", "https://a.example/x"]


def reset_of(party: Party) -> list[str]:
    tasks.mail_reset.run(party.owner.email)
    return ["/reset/new?token="]


def past_sign_on(party: Party) -> list[str]:
    tasks.mail_break_glass.run(str(party.id), str(party.owner.pk), "2031-05-17 09:30")
    return [party.owner.email, party.tenant.name, "2031-05-17 09:30"]


def operator_asks(party: Party) -> list[str]:
    asking = User.objects.create(email=f"op-{secrets.token_hex(4)}@ops.example", is_staff=True)
    row = OperatorRequest.objects.create(
        tenant=party.tenant,
        operator=asking,
        access="full",
        reason="Ticket 12.",
        minutes=45,
        until=timezone.now() + dt.timedelta(1),
    )
    tasks.mail_operator_request.run(str(row.id))
    return [asking.email, party.tenant.name, "Ticket 12.", "45", "/security/operators"]


def webhook_disabled(why: str) -> Any:
    def post(party: Party) -> list[str]:
        url = f"https://hooks.example/{secrets.token_hex(4)}"
        with tenant_scope(party.id):
            row = Webhook.objects.create(url=url, state=Webhook.State.DISABLED, reason=why)
        tasks.mail_webhook_disabled.run(str(row.id), str(party.id))
        return [party.tenant.name, url, f"/webhooks/{row.id}"]

    return post


LETTERS = {
    "invitation": invitation_to,
    "reset": reset_of,
    "past single sign-on": past_sign_on,
    "operator asks": operator_asks,
    **{f"webhook {why}": webhook_disabled(why) for why in notices.WHY},
    letters.TRIAL_ENDS: of_upkeep(letters.TRIAL_ENDS, ends_at=END.isoformat()),
    letters.GRANTED: of_upkeep(letters.GRANTED, words="As 1 wished."),
    letters.DECLINED: of_upkeep(letters.DECLINED, words="Not 2 of them."),
    letters.CLOSING: of_upkeep(letters.CLOSING, closes_at=END.isoformat(), who="ann@a.example"),
    letters.CLOSING_CANCELLED: of_upkeep(letters.CLOSING_CANCELLED, who="ann@a.example"),
}
# Whose letters are tried here, and the sign-up's, which has a page (tests/console/test_sign_up.py).
SENDERS = {"tenants/accounts/mail.py", "tenants/people/letters.py", "tenants/people/sign_up.py"}


@pytest.fixture
def compiled(settings: Any) -> None:
    catalogue.compile_all()
    settings.EMAIL_HOST = "mail.example"


@pytest.mark.parametrize("letter", LETTERS)
@pytest.mark.usefixtures("compiled")
def test_each_letter_is_in_the_language_of_its_reader_and_says_the_same(letter: str, party: Party) -> None:
    for language in ("", "en", "zh-hans", "xx"):
        User.objects.filter(pk=party.owner.pk).update(language=language)
        sent = len(mail.outbox)
        values = LETTERS[letter](party)
        [found] = [one for one in mail.outbox[sent:] if one.to == [party.owner.email]]
        in_chinese = [bool(CHINESE.search(text)) for text in (found.subject, found.body)]
        assert in_chinese == [language == "zh-hans"] * 2
        assert [value for value in values if value not in found.body] == []
        assert "%(" not in found.body


def test_every_kind_of_letter_is_tried() -> None:
    assert set(letters.KINDS) <= set(LETTERS)
    sending = re.compile(r"\b(?:send_mail|send_mass_mail|EmailMessage|EmailMultiAlternatives)\(")
    files = [path for top in ("tenants", "workers", "platform") for path in Path(ROOT, top).rglob("*.py")]
    assert {str(path.relative_to(ROOT)) for path in files if sending.search(path.read_text())} == SENDERS


@pytest.mark.usefixtures("compiled")
def test_the_language_is_the_one_of_the_pages(party: Party) -> None:
    def known() -> str:
        return User.objects.get(pk=party.owner.pk).language

    party.owner.set_password("correct horse battery")
    party.owner.save()
    client = Client(headers={"accept-language": "zh-CN"})
    client.post("/login", {"username": party.owner.email, "password": "correct horse battery"})
    assert known() == "zh-hans"
    client.post("/language", {"language": "en"})
    assert known() == "en"
    client.post("/language", {"language": ""})
    assert known() == "zh-hans"
    # Who has not signed in changes nothing.
    assert Client().post("/language", {"language": "en"}).status_code == 302
    assert known() == "zh-hans"


# --- The server ---

URLS = {
    "smtp://mail.example": MailServer("mail.example"),
    "smtp+tls://me%40x:p%2Fw@mail.example:2525": MailServer("mail.example", 2525, "me@x", "p/w", True, False),
    "smtps://mail.example": MailServer("mail.example", 465, "", "", False, True),
    "": MailServer("other.example", 26, "u", "p", True, False),
}


@pytest.mark.parametrize("url", URLS)
def test_the_server_is_one_address_or_djangos_names(url: str) -> None:
    names = {"EMAIL_HOST": "other.example", "EMAIL_PORT": "26", "EMAIL_HOST_USER": "u"}
    given = {**names, "EMAIL_HOST_PASSWORD": "p", "EMAIL_USE_TLS": "true", "EMAIL_URL": url}
    assert mail_server(lambda name, default: given.get(name, default)) == URLS[url]


def test_without_any_there_is_none() -> None:
    assert mail_server(lambda name, default: default) == MailServer()
    for url in ("https://mail.example", "mail.example", "smtp://"):
        with pytest.raises(ImproperlyConfigured):
            mail_server(lambda name, default, url=url: url if name == "EMAIL_URL" else default)
