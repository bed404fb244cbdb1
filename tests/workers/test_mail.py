"""Letters: what the tasks send, what happens while the mail server is away, and where the server is read from."""

from __future__ import annotations

import secrets
import smtplib
from typing import Any

import pytest
from celery.exceptions import Retry
from django.core import mail
from django.core.exceptions import ImproperlyConfigured

from config.mail import MailServer, mail_server
from tenants.accounts.models import Invitation, User
from tenants.accounts.permissions import Actor
from tenants.people import invitations
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
