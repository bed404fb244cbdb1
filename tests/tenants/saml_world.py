"""SAML answers by hand, of which a test bends what it wants; the provider that keys and signs is `saml_provider`."""

from __future__ import annotations

import datetime as dt
import re
import secrets
import urllib.parse
from dataclasses import dataclass, field
from typing import Any

from django.test import Client
from lxml import etree

from tenants.accounts.models import SignOnConnection
from tenants.people.sign_on import connections
from tests.conftest import Party
from tests.tenants.saml_provider import ENTITY_ID, SAML, SAMLP, Pair, encode, question_in, sign
from tests.tenants.sign_on_world import domain_name, leave

PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"


def request_id(address: str) -> str:
    """The id of the question in an address at the provider."""
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))
    found = re.search(r'ID="([^"]+)"', question_in(query["SAMLRequest"]))
    assert found
    return found[1]


@dataclass
class Response:
    """A usual answer; every field can be bent."""

    question: str
    acs: str
    audience: str
    email: str
    issuer: str = ENTITY_ID
    subject: str = "s1"
    name_format: str = PERSISTENT
    recipient: str | None = None
    confirms: str | None = None
    destination: str | None = None
    ends_in_s: int = 300
    begins_in_s: int = -60
    attributes: dict[str, list[str]] = field(default_factory=dict)
    assertion_id: str = field(default_factory=lambda: f"_{secrets.token_hex(16)}")

    def tree(self) -> Any:
        now = dt.datetime.now(dt.UTC)

        def at(seconds: int) -> str:
            return f"{now + dt.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"

        given = {"email": [self.email], **self.attributes}
        attributes = "".join(
            f'<saml:Attribute Name="{name}">'
            + "".join(f"<saml:AttributeValue>{value}</saml:AttributeValue>" for value in values)
            + "</saml:Attribute>"
            for name, values in given.items()
        )
        confirms = self.question if self.confirms is None else self.confirms
        answers = f'InResponseTo="{confirms}"' if confirms else ""
        audience = f"<saml:Audience>{self.audience}</saml:Audience>"
        restriction = (
            f"<saml:AudienceRestriction>{audience}</saml:AudienceRestriction>" if self.audience else ""
        )
        ends = f'NotOnOrAfter="{at(self.ends_in_s)}"'
        issuer = f"<saml:Issuer>{self.issuer}</saml:Issuer>"
        text = f"""<samlp:Response xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="_{secrets.token_hex(16)}" Version="2.0"
 IssueInstant="{at(0)}" Destination="{self.destination or self.acs}" InResponseTo="{self.question}">{issuer}
<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>
<saml:Assertion ID="{self.assertion_id}" Version="2.0" IssueInstant="{at(0)}">{issuer}
<saml:Subject><saml:NameID Format="{self.name_format}">{self.subject}</saml:NameID>
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">
<saml:SubjectConfirmationData {answers} Recipient="{self.recipient or self.acs}" {ends}/>
</saml:SubjectConfirmation></saml:Subject>
<saml:Conditions NotBefore="{at(self.begins_in_s)}" {ends}>{restriction}</saml:Conditions>
<saml:AuthnStatement AuthnInstant="{at(0)}"><saml:AuthnContext>
<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef>
</saml:AuthnContext></saml:AuthnStatement>
<saml:AttributeStatement>{attributes}</saml:AttributeStatement></saml:Assertion></samlp:Response>"""
        return etree.fromstring(text)

    def signed(self, keys: Pair | None = None) -> Any:
        root = self.tree()
        sign(root, f"{{{SAML}}}Assertion", keys)
        return root


def usual(client: Client, party: Party, route: SignOnConnection) -> Response:
    """A question that this client has asked, and what answers it."""
    email = f"ann@{domain_name(party)}"
    service = connections.service_of(route.id)
    return Response(request_id(leave(client, email)), service.acs_url, service.entity_id, email)


def post(client: Client, route: SignOnConnection, encoded: str) -> Any:
    """Another site's form, so without our cookies; then the browser follows."""
    first = Client().post(f"/sso/{route.id}/acs", {"SAMLResponse": encoded})
    if first.status_code != 303:
        return first
    return client.get(first.headers["Location"])


def come_by_saml(client: Client, party: Party, route: SignOnConnection) -> Any:
    """Sign in as the usual person; the last answer."""
    return post(client, route, encode(usual(client, party, route).signed()))
