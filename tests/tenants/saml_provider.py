"""A SAML identity provider that runs here: pysaml2's own server, which reads our metadata and our questions.

python-xmlsec signs for it, as the binary that it would run is not everywhere. By hand, for docs/security.md:

    .venv/bin/python -m tests.tenants.saml_provider ann@grocery.example --groups catalogue-team
"""

from __future__ import annotations

import argparse
import base64
import datetime as dt
import re
import sys
import threading
import urllib.parse
import urllib.request
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
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


def question_in(encoded: str) -> str:
    """The XML of a question, as the binding HTTP-Redirect encodes it."""
    return zlib.decompress(base64.b64decode(encoded), -15).decode()


def _metadata_of_who_asks(encoded: str) -> str:
    """Of whoever is called by the address at which it stands, as Crosslight is."""
    found = re.search(r"<saml:Issuer>(http[^<]+)</saml:Issuer>", question_in(encoded))
    assert found, "whoever asks is not called by an address"
    with urllib.request.urlopen(found[1], timeout=60) as answer:
        text: str = answer.read().decode()
    return text


class HonestIdp:
    """pysaml2's identity provider behind a small web server: it signs everybody in as `identity` says.

    `service_metadata` is that of the side that asks; empty: it is read from the address by which that side is called.
    """

    def __init__(self, port: int = 0) -> None:
        self.identity: dict[str, Any] = {}
        self.subject = "honest-1"
        self.service_metadata = ""
        self.server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.metadata = metadata(f"{self.url}/sso", f"{self.url}/metadata")

    def answer(self, encoded: str) -> tuple[str, str]:
        """Where to post to, and the signed response to a question."""
        idp = self._idp(self.service_metadata or _metadata_of_who_asks(encoded))
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

    def _idp(self, service_metadata: str) -> Any:
        sso = [(f"{self.url}/sso", REDIRECT)]
        policy = {"default": {"lifetime": {"minutes": 5}, "attribute_restrictions": None}}
        return Server(
            config=IdPConfig().load(
                {
                    "entityid": f"{self.url}/metadata",
                    "xmlsec_binary": "/bin/true",  # python-xmlsec signs
                    "service": {"idp": {"endpoints": {"single_sign_on_service": sso}, "policy": policy}},
                    "metadata": {"inline": [service_metadata]},
                }
            )
        )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        idp = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metadata":
                    return self._send("application/samlmetadata+xml", idp.metadata)
                query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
                where, response = idp.answer(query["SAMLRequest"])
                body = (
                    f'<html lang="en"><title>IdP</title><body onload="document.forms[0].submit()">'
                    f'<form method="post" action="{where}"><input type="hidden" name="SAMLResponse" value="{response}">'
                    "<button>Continue</button></form></body></html>"
                )
                return self._send("text/html", body)

            def _send(self, kind: str, text: str) -> None:
                body = text.encode()
                self.send_response(200)
                self.send_header("Content-Type", kind)
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


def main() -> None:
    parser = argparse.ArgumentParser(description="A SAML identity provider on this machine, for trying out.")
    parser.add_argument("email", help="who signs in, whoever comes")
    parser.add_argument("--groups", nargs="*", default=[], help="the attribute `groups`")
    parser.add_argument("--port", type=int, default=9401)
    given = parser.parse_args()
    idp = HonestIdp(given.port)
    idp.subject = given.email
    idp.identity = {"mail": [given.email], "groups": given.groups}
    sys.stdout.write(f"metadata: {idp.url}/metadata (Ctrl-C ends it)\n")
    sys.stdout.flush()
    idp.server.serve_forever()


if __name__ == "__main__":
    main()
