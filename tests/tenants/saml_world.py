"""SAML identity providers for tests.

`HonestIdp` is pysaml2's own server, which reads our metadata and our questions; python-xmlsec signs for it, as the
binary that it would run is not everywhere. `Response` is an answer by hand, of which a test bends what it wants.
"""

from __future__ import annotations

import base64
import datetime as dt
import re
import secrets
import threading
import urllib.parse
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import xmlsec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree

with warnings.catch_warnings():
    # It uses parts of `cryptography` that will go.
    warnings.simplefilter("ignore")
    from saml2 import BINDING_HTTP_POST, BINDING_HTTP_REDIRECT
    from saml2.config import IdPConfig
    from saml2.saml import NAMEID_FORMAT_PERSISTENT, NameID
    from saml2.server import Server

ENTITY_ID = "https://idp.example/metadata"
SAML = "urn:oasis:names:tc:SAML:2.0:assertion"
SAMLP = "urn:oasis:names:tc:SAML:2.0:protocol"
NS = {"saml": SAML, "samlp": SAMLP, "ds": "http://www.w3.org/2000/09/xmldsig#"}
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, in PEM."""

    key: bytes
    certificate: bytes

    @property
    def bare(self) -> str:
        """The certificate as metadata holds it."""
        return "".join(self.certificate.decode().splitlines()[1:-1])


@cache
def pair(name: str = "idp") -> Pair:
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    made = (
        made.serial_number(1).not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(99))
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return Pair(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
        made.sign(key, hashes.SHA256()).public_bytes(pem),
    )


def metadata(
    sso_url: str = "https://idp.example/sso", entity_id: str = ENTITY_ID, keys: Pair | None = None
) -> str:
    return (
        f'<md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{entity_id}">'
        f'<md:IDPSSODescriptor protocolSupportEnumeration="{SAMLP}"><md:KeyDescriptor use="signing">'
        f'<ds:KeyInfo xmlns:ds="{NS["ds"]}"><ds:X509Data><ds:X509Certificate>{(keys or pair()).bare}'
        "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
        f'<md:SingleSignOnService Binding="{REDIRECT}" Location="{sso_url}"/>'
        "</md:IDPSSODescriptor></md:EntityDescriptor>"
    )


def sign(root: Any, tag: str, keys: Pair | None = None, method: Any = None) -> None:
    """Sign the first element of this tag by its ID, enveloped, with SHA-256; the signature follows its Issuer."""
    keys = keys or pair()
    node = root if root.tag == tag else root.find(f".//{tag}")
    xmlsec.tree.add_ids(root, ["ID"])
    template = xmlsec.template.create(
        node, xmlsec.constants.TransformExclC14N, method or xmlsec.constants.TransformRsaSha256, ns="ds"
    )
    digest = xmlsec.constants.TransformSha256 if method is None else xmlsec.constants.TransformSha1
    reference = xmlsec.template.add_reference(template, digest, uri=f"#{node.get('ID')}")
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformEnveloped)
    xmlsec.template.add_transform(reference, xmlsec.constants.TransformExclC14N)
    xmlsec.template.add_x509_data(xmlsec.template.ensure_key_info(template))
    node.insert(1, template)
    context = xmlsec.SignatureContext()
    context.key = xmlsec.Key.from_memory(keys.key, xmlsec.constants.KeyDataFormatPem)
    context.key.load_cert_from_memory(keys.certificate, xmlsec.constants.KeyDataFormatPem)
    context.sign(template)


def encode(root: Any) -> str:
    return base64.b64encode(etree.tostring(root)).decode()


def request_id(address: str) -> str:
    """The id of the question in an address at the provider."""
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(address).query))
    text = zlib.decompress(base64.b64decode(query["SAMLRequest"]), -15).decode()
    found = re.search(r'ID="([^"]+)"', text)
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


class HonestIdp:
    """pysaml2's identity provider behind a small web server: it signs everybody in as `identity` says."""

    def __init__(self) -> None:
        self.identity: dict[str, Any] = {}
        self.subject = "honest-1"
        self.service_metadata = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.metadata = metadata(f"{self.url}/sso", f"{self.url}/metadata")

    def answer(self, encoded: str) -> tuple[str, str]:
        """Where to post to, and the signed response to a question."""
        idp = self._idp()
        asked = idp.parse_authn_request(encoded, BINDING_HTTP_REDIRECT).message
        arguments = idp.response_args(asked, [BINDING_HTTP_POST])
        made = idp.create_authn_response(
            {name: list(values) for name, values in self.identity.items()},
            name_id=NameID(format=NAMEID_FORMAT_PERSISTENT, text=self.subject),
            authn={"class_ref": "urn:oasis:names:tc:SAML:2.0:ac:classes:Password", "authn_auth": self.url},
            sign_response=False,
            sign_assertion=False,
            **{name: value for name, value in arguments.items() if name != "name_id_policy"},
        )
        root = etree.fromstring(str(made).encode())
        sign(root, f"{{{SAML}}}Assertion")
        return str(arguments["destination"]), encode(root)

    def _idp(self) -> Any:
        sso = [(f"{self.url}/sso", REDIRECT)]
        policy = {"default": {"lifetime": {"minutes": 5}, "attribute_restrictions": None}}
        return Server(
            config=IdPConfig().load(
                {
                    "entityid": f"{self.url}/metadata",
                    "xmlsec_binary": "/bin/true",  # python-xmlsec signs
                    "service": {"idp": {"endpoints": {"single_sign_on_service": sso}, "policy": policy}},
                    "metadata": {"inline": [self.service_metadata]},
                }
            )
        )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        idp = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                where, response = idp.answer(query["SAMLRequest"])
                body = (
                    f'<html lang="en"><title>IdP</title><body onload="document.forms[0].submit()">'
                    f'<form method="post" action="{where}"><input type="hidden" name="SAMLResponse" value="{response}">'
                    "<button>Continue</button></form></body></html>"
                ).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Silent."""

        return Handler


@contextmanager
def honest_idp() -> Iterator[HonestIdp]:
    idp = HonestIdp()
    thread = threading.Thread(target=idp.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield idp
    finally:
        idp.server.shutdown()
        idp.server.server_close()
