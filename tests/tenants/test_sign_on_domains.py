"""Proving a domain: by a TXT record that a real name server answers with, or by the operator."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
from django.core.management import CommandError, call_command

from tenants.accounts.models import OperatorAct, SignOnDomain
from tenants.errors import Conflict, Invalid, NotFound
from tenants.events.models import AuditEvent
from tenants.people.sign_on import domains
from tenants.scope import tenant_scope
from tests.conftest import Party


class NameServer:
    """Answers questions for TXT records by UDP on loopback; `broken` answers that it failed."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.broken = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                data, client = self.socket.recvfrom(4096)
            except OSError:
                return
            if not data:
                return
            self.socket.sendto(self._answer(data), client)

    def _answer(self, data: bytes) -> bytes:
        asked = dns.message.from_wire(data)
        answer = dns.message.make_response(asked)
        answer.flags |= dns.flags.AA | dns.flags.RA
        name = asked.question[0].name.to_text().rstrip(".")
        texts = [f'"{text}"' for text in self.records.get(name, [])]
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif texts:
            answer.answer.append(dns.rrset.from_text(asked.question[0].name, 60, "IN", "TXT", *texts))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer.to_wire()


@pytest.fixture
def name_server(settings: Any) -> Iterator[NameServer]:
    server = NameServer()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    settings.SSO_DNS_SERVERS = (server.address,)
    yield server
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
        last.sendto(b"", server.socket.getsockname())
    thread.join(5)
    server.socket.close()


def claim(party: Party, name: str) -> SignOnDomain:
    with tenant_scope(party.id):
        return domains.add_domain(domain=name, actor="key:t")


def prove(party: Party, row: SignOnDomain) -> SignOnDomain:
    return domains.prove_domain(tenant_id=party.id, domain_id=row.id, actor="key:t")


def test_a_record_proves_a_domain(party: Party, name_server: NameServer) -> None:
    name = f"{party.tenant.slug}.example"
    row = claim(party, f"@{name.upper()}.")
    assert row.domain == name
    with pytest.raises(Conflict, match=f"_crosslight.{name} has no TXT record"):
        prove(party, row)
    name_server.records = {f"_crosslight.{name}": ["v=spf1 -all", "crosslight-domain-verification=other"]}
    with pytest.raises(Conflict, match="has no TXT record"):
        prove(party, row)
    name_server.records[f"_crosslight.{name}"].append(domains.record_value(row))
    proved = prove(party, row)
    assert (proved.proof, proved.proved_at is None) == ("dns", False)
    name_server.records = {}
    assert prove(party, row).proved_at == proved.proved_at
    with tenant_scope(party.id):
        lines = [line.verb for line in AuditEvent.objects.filter(verb__startswith="sign_on.").order_by("id")]
    assert lines == ["sign_on.domain_added", "sign_on.domain_proved"]


def test_without_an_answer_nothing_is_proved(party: Party, name_server: NameServer) -> None:
    row = claim(party, f"{party.tenant.slug}.example")
    name_server.broken = True
    with pytest.raises(Conflict, match="No name server answered"):
        prove(party, row)
    row.refresh_from_db()
    assert row.proved_at is None


def test_whose_a_domain_is_is_told_to_nobody_who_has_not_proved_it(
    party: Party, stranger: Party, name_server: NameServer
) -> None:
    name = f"{party.tenant.slug}.example"
    mine = claim(party, name)
    name_server.records = {f"_crosslight.{name}": [domains.record_value(mine)]}
    prove(party, mine)
    theirs = claim(stranger, name)
    # The same words as for a domain that nobody has proved: a record of the first tenant is of no use to another one.
    with pytest.raises(Conflict, match="has no TXT record with the value"):
        prove(stranger, theirs)
    name_server.records[f"_crosslight.{name}"].append(domains.record_value(theirs))
    with pytest.raises(Conflict, match="Another workspace of this installation has proved this domain"):
        prove(stranger, theirs)
    theirs.refresh_from_db()
    assert theirs.proved_at is None
    with tenant_scope(party.id):
        domains.remove_domain(domain_id=mine.id, actor="key:t")
    assert prove(stranger, theirs).proof == "dns"


def test_the_operator_vouches_and_moves(party: Party, stranger: Party) -> None:
    name = f"{party.tenant.slug}.example"
    for one in (party, stranger):
        call_command("prove_domain", name, tenant=one.tenant.slug, reason="Contract")
    proved = SignOnDomain.objects.get(domain=name, proved_at__isnull=False)
    assert (proved.tenant_id, proved.proof) == (stranger.id, "operator")
    with tenant_scope(party.id):
        verbs = list(AuditEvent.objects.order_by("id").values_list("verb", "actor"))
    assert verbs[-1] == ("sign_on.domain_withdrawn", "operator:manage.py")
    act = OperatorAct.objects.filter(verb="sign_on.domain_proved", target=stranger.tenant.slug).get()
    assert (act.reason, act.details) == ("Contract", {"domain": name, "taken_from": party.tenant.slug})
    with pytest.raises(CommandError):
        call_command("prove_domain", name, tenant="nobody-of-that-name", reason="x")
    with pytest.raises(CommandError, match="Give a reason"):
        call_command("prove_domain", name, tenant=party.tenant.slug, reason=" ")


@pytest.mark.parametrize(
    "name", ["", "localhost", "a b.example", "10.0.0.1", "x" * 64 + ".example", "*.example.org"]
)
def test_what_is_no_domain(party: Party, name: str) -> None:
    with pytest.raises(Invalid, match="not a domain"):
        claim(party, name)


def test_names_of_other_scripts_are_one_name(party: Party) -> None:
    assert claim(party, "Bücher.example").domain == "xn--bcher-kva.example"


def test_a_domain_leads_to_connections_of_its_own_workspace_only(party: Party, stranger: Party) -> None:
    from tests.tenants.sign_on_world import connect_oidc

    theirs = connect_oidc(stranger, "https://login.example")
    row = claim(party, f"x.{party.tenant.slug}.example")
    with tenant_scope(party.id), pytest.raises(NotFound, match="This connection does not exist"):
        domains.route_domain(domain_id=row.id, connection_id=theirs.id, actor="key:t")
    row.refresh_from_db()
    assert row.connection_id is None
