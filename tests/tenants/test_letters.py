"""Letters that come once whatever dies, about trials that end among others; by a real server over a real connection."""

from __future__ import annotations

import smtplib
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from tenants.accounts.models import Letter, Tenant, User
from tenants.people import letters
from tenants.people.erasure import erase_everywhere
from tenants.scope import operator_scope
from tests.conftest import Party
from tests.tenants.people import new_member


class SmtpServer:
    """As much of RFC 5321 as a client needs. `refused` addresses answer 550; `broken`: it hangs up after the text."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.refused: set[str] = set()
        self.broken = False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _address = self._socket.accept()
            except OSError:
                return
            with client, client.makefile("rwb") as stream:
                self._talk(stream)

    def _talk(self, stream: Any) -> None:
        def say(line: str) -> None:
            stream.write(line.encode() + b"\r\n")
            stream.flush()

        say("220 test")
        to = ""
        while line := stream.readline().decode().strip():
            word = line[:4].upper()
            if word == "RCPT":
                to = line.partition("<")[2].rstrip(">")
                say("550 no such mailbox" if to in self.refused else "250 ok")
            elif word == "DATA":
                say("354 go on")
                text = b""
                while (one := stream.readline()) not in (b".\r\n", b""):
                    text += one
                self.messages.append((to, text.decode()))
                if self.broken:
                    return
                say("250 taken")
            elif word == "QUIT":
                say("221 bye")
                return
            else:
                say("250 ok")

    def to(self, email: str) -> list[str]:
        return [text for address, text in self.messages if address == email]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def server(settings: Any) -> Iterator[SmtpServer]:
    made = SmtpServer()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", made.port
    # What other tests have left is none of ours.
    Letter.objects.filter(done_at=None).update(done_at=timezone.now())
    yield made
    made.close()


def ending(party: Party, left: timedelta) -> None:
    Tenant.objects.filter(pk=party.id).update(trial_ends_at=timezone.now() + left)


def test_owners_are_told_at_seven_days_and_at_one_once_each(server: SmtpServer, party: Party) -> None:
    other, editor = new_member(party.tenant, "owner"), new_member(party.tenant, "editor")
    ending(party, timedelta(days=7, minutes=1))
    letters.note_trials()
    letters.send_due()
    assert server.to(party.owner.email) == []
    for left, count in ((timedelta(days=7), 1), (timedelta(hours=23), 2)):
        ending(party, left)
        for _round in range(3):
            letters.note_trials()
            letters.send_due()
        assert [len(server.to(one.email)) for one in (party.owner, other, editor)] == [count, count, 0]
    assert "Your trial of Crosslight ends soon" in server.to(other.email)[0]


def test_the_same_end_is_told_once_and_a_new_one_anew(server: SmtpServer, party: Party) -> None:
    end = timezone.now() + timedelta(days=3)
    for _round in range(2):
        Tenant.objects.filter(pk=party.id).update(trial_ends_at=end)
        letters.note_trials()
        letters.send_due()
    assert len(server.to(party.owner.email)) == 1
    Tenant.objects.filter(pk=party.id).update(trial_ends_at=end + timedelta(days=2))
    letters.note_trials()
    letters.send_due()
    assert len(server.to(party.owner.email)) == 2


def test_what_is_not_true_any_more_is_not_sent(server: SmtpServer, party: Party) -> None:
    ending(party, timedelta(days=3))
    letters.note_trials()
    Tenant.objects.filter(pk=party.id).update(trial_ends_at=None)
    letters.send_due()
    assert server.to(party.owner.email) == []
    assert not Letter.objects.filter(tenant=party.tenant, done_at=None).exists()


def test_a_worker_that_dies_before_it_sent_loses_nothing(
    server: SmtpServer, party: Party, settings: Any
) -> None:
    ending(party, timedelta(days=3))
    letters.note_trials()
    settings.EMAIL_PORT = 1
    assert letters.send_due() == 0
    assert Letter.objects.filter(tenant=party.tenant, done_at=None).count() == 1
    settings.EMAIL_PORT = server.port
    letters.send_due()
    assert len(server.to(party.owner.email)) == 1


def test_one_that_dies_after_it_sent_sends_it_again_under_the_same_id(
    server: SmtpServer, party: Party
) -> None:
    ending(party, timedelta(days=3))
    letters.note_trials()
    server.broken = True
    letters.send_due()
    server.broken = False
    letters.send_due()
    ids = [
        line
        for text in server.to(party.owner.email)
        for line in text.splitlines()
        if line.startswith("Message-ID:")
    ]
    assert len(ids) == 2
    assert len(set(ids)) == 1


def test_a_mailbox_that_refuses_does_not_hold_up_the_others(server: SmtpServer, party: Party) -> None:
    other = new_member(party.tenant, "owner")
    server.refused.add(party.owner.email)
    ending(party, timedelta(days=3))
    letters.note_trials()
    letters.send_due()
    assert len(server.to(other.email)) == 1
    row = Letter.objects.get(tenant=party.tenant, user=party.owner)
    assert (row.attempts, row.done_at) == (1, None)
    for _round in range(letters.ATTEMPTS - 1):
        letters.send_due()
    row.refresh_from_db()
    assert (row.attempts, row.done_at is not None) == (letters.ATTEMPTS, True)


def test_a_name_makes_no_header_and_no_paragraph(server: SmtpServer, party: Party) -> None:
    Tenant.objects.filter(pk=party.id).update(name="Shop\r\nBcc: all@example.org\r\n\r\nPay here")
    ending(party, timedelta(days=3))
    letters.note_trials()
    letters.send_due()
    [text] = server.to(party.owner.email)
    head, _, body = text.partition("\r\n\r\n")
    assert "Bcc" not in head
    assert "Shop Bcc: all@example.org Pay here" in body.replace("=\r\n", "")


def test_without_a_mail_server_nothing_is_written_down(party: Party, settings: Any) -> None:
    settings.EMAIL_HOST = ""
    ending(party, timedelta(days=3))
    letters.note_trials()
    assert letters.send_due() == 0
    assert not Letter.objects.filter(tenant=party.tenant).exists()


def test_a_letter_holds_no_address_and_goes_with_its_reader(party: Party, settings: Any) -> None:
    settings.EMAIL_HOST = "mail.example"
    person = new_member(party.tenant, "owner")
    ending(party, timedelta(days=3))
    letters.note_trials()
    row = Letter.objects.get(tenant=party.tenant, user=person)
    assert person.email not in str(Letter.objects.filter(pk=row.pk).values().get())
    with operator_scope("erase a person"):
        erase_everywhere(person)
    assert not User.objects.filter(pk=person.pk).exists()
    assert not Letter.objects.filter(pk=row.pk).exists()
    assert issubclass(smtplib.SMTPException, OSError)
