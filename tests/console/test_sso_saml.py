"""Signing in by SAML 2.0: with pysaml2's provider, and with answers that are bent by hand."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from typing import Any

import pytest
import xmlsec
from django.test import Client
from lxml import etree

from tenants.accounts.models import Membership, SignOnConnection, SignOnIdentity, User
from tenants.errors import Invalid
from tenants.events.models import AuditEvent
from tenants.people.sign_on import connections, saml
from tenants.scope import tenant_scope
from tests.conftest import Party
from tests.tenants.saml_world import (
    NS,
    SAML,
    SAMLP,
    Response,
    encode,
    honest_idp,
    metadata,
    pair,
    request_id,
    sign,
)
from tests.tenants.sign_on_world import allow_local, connect, domain_name, leave, query_of

TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"


@pytest.fixture(autouse=True)
def _local(settings: Any) -> None:
    allow_local(settings)


@pytest.fixture
def route(party: Party) -> SignOnConnection:
    return connect(party, "saml", metadata=metadata(), default_role="viewer", role_claim="groups")


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


def refused(response: Any) -> str:
    assert response.status_code == 422
    assert "_auth_user_id" not in response.wsgi_request.session
    return str(response.context["detail"])


@pytest.mark.filterwarnings("ignore")  # the provider's own library
def test_a_new_person_joins_through_a_real_provider(party: Party) -> None:
    email = f"ann@{domain_name(party)}"
    with honest_idp() as idp:
        roles = {"role_claim": "groups", "role_map": [{"value": "catalogue", "role": "editor"}]}
        route = connect(party, "saml", metadata=idp.metadata, **roles)
        idp.service_metadata = Client().get(f"/sso/{route.id}/metadata").content.decode()
        idp.identity = {"mail": [email], "groups": ["staff", "catalogue"], "displayName": ["Ann Bee"]}
        client = Client()
        address = leave(client, email, next="/datasets")
        assert address.startswith(f"{idp.url}/sso?SAMLRequest=")
        where, encoded = idp.answer(query_of(address)["SAMLRequest"])
        assert where == connections.service_of(route.id).acs_url
        response = post(client, route, encoded)
    assert response.status_code == 302, response.context["detail"]
    assert response.headers["Location"] == "/datasets"
    user = User.objects.get(email=email)
    assert (user.name, user.has_usable_password()) == ("Ann Bee", False)
    assert Membership.objects.get(user=user).role == "editor"
    with tenant_scope(party.id):
        assert SignOnIdentity.objects.get(user=user).subject == "honest-1"


def test_the_hand_written_answer_is_believed_as_it_is(party: Party, route: SignOnConnection) -> None:
    client = Client()
    answer = usual(client, party, route)
    assert post(client, route, encode(answer.signed())).status_code == 302
    assert client.get("/").status_code == 200


Bend = Callable[[Response], Any]


def bent(**changes: Any) -> Bend:
    def bend(answer: Response) -> Any:
        for name, value in changes.items():
            setattr(answer, name, value)
        return answer.signed()

    return bend


def unsigned(answer: Response) -> Any:
    return answer.tree()


def only_the_message_is_signed(answer: Response) -> Any:
    root = answer.tree()
    sign(root, f"{{{SAMLP}}}Response")
    return root


def changed_after_signing(answer: Response) -> Any:
    root = answer.signed()
    root.find(f".//{{{SAML}}}AttributeValue").text = "boss@" + answer.email.partition("@")[2]
    return root


def by_sha_1(answer: Response) -> Any:
    root = answer.tree()
    sign(root, f"{{{SAML}}}Assertion", method=xmlsec.constants.TransformRsaSha1)
    return root


def _forged(answer: Response, root: Any) -> Any:
    """A copy of the signed assertion without its signature, that says somebody else."""
    forged = copy.deepcopy(root.find(f".//{{{SAML}}}Assertion"))
    forged.set("ID", "_forged")
    forged.remove(forged.find("ds:Signature", NS))
    forged.find(f".//{{{SAML}}}AttributeValue").text = "boss@" + answer.email.partition("@")[2]
    return forged


def wrapped_before(answer: Response) -> Any:
    root = answer.signed()
    root.insert(2, _forged(answer, root))
    return root


def wrapped_inside(answer: Response) -> Any:
    """The signed assertion lies within the forged one, where only the verifier looks for it."""
    root = answer.signed()
    signed = root.find(f".//{{{SAML}}}Assertion")
    forged = _forged(answer, root)
    root.replace(signed, forged)
    forged.append(signed)
    return root


def wrapped_in_the_signature(answer: Response) -> Any:
    root = answer.signed()
    signed = root.find(f".//{{{SAML}}}Assertion")
    forged = _forged(answer, root)
    signature = copy.deepcopy(signed.find("ds:Signature", NS))
    forged.insert(1, signature)
    root.replace(signed, forged)
    holder = etree.SubElement(signature, f"{{{NS['ds']}}}Object")
    holder.append(signed)
    return root


def a_comment_in_the_address(answer: Response) -> Any:
    """Parsers that read the text up to a comment see another address than the one that was signed."""
    answer.email = f"ann@evil.example<!-- -->.{answer.email.partition('@')[2]}"
    return answer.signed()


BENT: dict[str, tuple[Bend, str]] = {
    "unsigned": (unsigned, "is not signed"),
    "only the message is signed": (only_the_message_is_signed, "is not signed"),
    "changed after signing": (changed_after_signing, "Signature validation failed"),
    "by SHA-1": (by_sha_1, "Deprecated signature algorithm"),
    "another key": (lambda answer: answer.signed(pair("other")), "Signature validation failed"),
    "wrapped before": (wrapped_before, "must contain 1 assertion"),
    "wrapped inside": (wrapped_inside, "must contain 1 assertion"),
    "wrapped in the signature": (wrapped_in_the_signature, "must contain 1 assertion"),
    "expired": (bent(ends_in_s=-3600, begins_in_s=-7200), "expired"),
    "not yet valid": (bent(begins_in_s=3600, ends_in_s=7200), "not yet valid"),
    "wrong audience": (bent(audience="https://shop.example"), "another audience than"),
    "no audience": (bent(audience=""), "says audience –, expected"),
    "wrong issuer": (bent(issuer="https://evil.example"), "was not issued by https://idp.example/metadata"),
    "wrong recipient": (bent(recipient="https://shop.example/acs"), "SubjectConfirmation"),
    "a recipient that only begins so": (bent(recipient="http://127.0.0.1:8000/sso/x"), "SubjectConfirmation"),
    "wrong destination": (bent(destination="https://shop.example/acs"), "instead of"),
    "answers another question": (bent(confirms="_other"), "SubjectConfirmation"),
    "answers no question": (bent(confirms=""), "does not say that it answers this browser"),
    "a transient name": (bent(name_format=TRANSIENT), "transient NameID"),
    "no address": (bent(email="nobody"), "sends no e-mail address"),
    "an address elsewhere": (bent(email="ann@gmail.example"), "has not proved that"),
    "a comment in the address": (a_comment_in_the_address, "has not proved that"),
}


@pytest.mark.parametrize("name", BENT)
def test_bent_answers(party: Party, route: SignOnConnection, name: str) -> None:
    bend, said = BENT[name]
    client = Client()
    answer = usual(client, party, route)
    assert said in refused(post(client, route, encode(bend(answer))))
    assert not Membership.objects.filter(tenant=party.tenant).exclude(user=party.owner).exists()
    with tenant_scope(party.id):
        lines = list(AuditEvent.objects.filter(verb="sign_on.refused").values_list("details", flat=True))
    assert [said in line["why"] for line in lines] == [True]
    # The question is over with that.
    assert "matches no pending sign-in" in refused(post(client, route, encode(answer.signed())))


def test_an_answer_that_nobody_asked_for(party: Party, route: SignOnConnection) -> None:
    service = connections.service_of(route.id)
    email = f"ann@{domain_name(party)}"
    for question in ("", "_made-up"):
        answer = Response(question, service.acs_url, service.entity_id, email).signed()
        if not question:
            del answer.attrib["InResponseTo"]
        said = refused(post(Client(), route, encode(answer)))
        assert "not requested" in said


def test_an_answer_counts_once(party: Party, route: SignOnConnection) -> None:
    client = Client()
    answer = usual(client, party, route)
    encoded = encode(answer.signed())
    assert post(client, route, encoded).status_code == 302
    assert "matches no pending sign-in" in refused(post(Client(), route, encoded))
    # The same assertion for another question of the same browser.
    again = usual(client, party, route)
    again.assertion_id = answer.assertion_id
    assert "was used before" in refused_while_signed_in(post(client, route, encode(again.signed())))


def refused_while_signed_in(response: Any) -> str:
    assert response.status_code == 422
    return str(response.context["detail"])


def test_an_answer_counts_in_the_browser_that_asked(party: Party, route: SignOnConnection) -> None:
    victim, attacker = Client(), Client()
    answer = usual(attacker, party, route)
    usual(victim, party, route)
    first = Client().post(f"/sso/{route.id}/acs", {"SAMLResponse": encode(answer.signed())})
    assert first.status_code == 303
    assert "not requested by this browser" in refused(victim.get(first.headers["Location"]))
    assert "not requested by this browser" in refused(Client().get(first.headers["Location"]))
    assert attacker.get(first.headers["Location"]).status_code == 302


def test_an_answer_for_another_workspace_is_none_here(
    party: Party, stranger: Party, route: SignOnConnection
) -> None:
    """Both trust the same provider."""
    other = connect(stranger, "saml", metadata=metadata(), default_role="admin")
    client = Client()
    answer = usual(client, party, route)
    assert "matches no pending sign-in" in refused(post(client, other, encode(answer.signed())))
    question = usual(client, stranger, other).question
    answer.question = question
    assert refused(post(client, other, encode(answer.signed())))
    assert not Membership.objects.filter(tenant=stranger.tenant).exclude(user=stranger.owner).exists()


BOMB = (
    '<!DOCTYPE r [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">'
    f']><samlp:Response xmlns:samlp="{SAMLP}" InResponseTo="&c;"/>'
)
EXTERNAL = (
    '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    f'<samlp:Response xmlns:samlp="{SAMLP}" InResponseTo="_x">&x;</samlp:Response>'
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (BOMB.encode(), "is not XML, or declares entities"),
        (EXTERNAL.encode(), "is not XML, or declares entities"),
        (BOMB.encode("utf-16"), "is not XML, or declares entities"),
        (b"", "is not XML"),
        (b"<a/>", "is not a SAML response"),
        (b"<" + b"a" * 300_000 + b"/>", "has more than"),
        (b"<a>" * 5_000, "is not XML"),
        (b"\xff\xfe\x00", "is not XML"),
    ],
)
def test_what_is_no_response(party: Party, route: SignOnConnection, content: bytes, said: str) -> None:
    encoded = base64.b64encode(content).decode()
    assert said in refused(Client().post(f"/sso/{route.id}/acs", {"SAMLResponse": encoded}))
    assert "is not XML" in refused(Client().post(f"/sso/{route.id}/acs", {"SAMLResponse": "%%%"}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "This is needed."),
        ("<a/>", "describes no identity provider"),
        (BOMB, "declares entities"),
        (metadata("javascript:alert(1)"), "no address for the binding HTTP-Redirect"),
        (metadata().replace("<ds:X509Certificate>", "<ds:X509Certificate>AAAA"), "cannot be read"),
        (metadata().replace("IDPSSODescriptor", "SPSSODescriptor"), "describes no identity provider"),
    ],
)
def test_what_is_no_metadata(party: Party, text: str, said: str) -> None:
    with pytest.raises(Invalid) as refusal:
        changes = connections.read_values(party.id, "saml", {"name": "n", "metadata": text})
        with tenant_scope(party.id):
            connections.create_connection(protocol="saml", changes=changes, actor="key:t")
    assert said in refusal.value.detail


def test_our_metadata_says_what_is_demanded(route: SignOnConnection) -> None:
    response = Client().get(f"/sso/{route.id}/metadata")
    assert response["Content-Type"] == "application/samlmetadata+xml"
    root = etree.fromstring(response.content)
    service = connections.service_of(route.id)
    descriptor = root[0]
    assert root.get("entityID") == service.entity_id
    assert descriptor.get("WantAssertionsSigned") == "true"
    assert [one.get("Location") for one in descriptor.iter("{*}AssertionConsumerService")] == [
        service.acs_url
    ]
    assert saml.read_metadata(metadata()).certificates == (pair().bare,)
