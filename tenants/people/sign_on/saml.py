"""SAML 2.0: web browser sign-on with the redirect binding for questions and the POST binding for answers.

The library (python3-saml) verifies signatures and reads only what they cover. Where it takes an answer that leaves
something out, this does not: the signed assertion itself has to name this installation as its audience, the address
that it was sent to, the question that it answers and until when it counts (SAML profiles, section 4.1.4.2).
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from lxml.etree import LxmlError
from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
from onelogin.saml2.constants import OneLogin_Saml2_Constants
from onelogin.saml2.errors import OneLogin_Saml2_Error, OneLogin_Saml2_ValidationError
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.response import OneLogin_Saml2_Response
from onelogin.saml2.settings import OneLogin_Saml2_Settings
from onelogin.saml2.utils import OneLogin_Saml2_Utils
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML
from xmlsec import Error as XmlsecError

from tenants.errors import Invalid
from tenants.events.fetching import Question, Unreachable, fetch
from tenants.events.ssrf_guard import for_sign_on
from tenants.people.sign_on.assertions import Person, Refused, checked, texts

MAX_METADATA, MAX_RESPONSE = 1024 * 1024, 256 * 1024
MAX_CERTIFICATES = 10
# When somebody has to sign in anew, until the answer is here.
MOST_AGO_S = 660
TRANSIENT = OneLogin_Saml2_Constants.NAMEID_TRANSIENT
EMAIL_FORMAT = OneLogin_Saml2_Constants.NAMEID_EMAIL_ADDRESS
#: Under which providers send an address, where the connection names no attribute.
EMAIL_ATTRIBUTES = (
    "email",
    "mail",
    "emailAddress",
    "urn:oid:0.9.2342.19200300.100.1.3",
    "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
)
NAME_ATTRIBUTES = (
    "displayName",
    "name",
    "urn:oid:2.16.840.1.113730.3.1.241",
    "http://schemas.microsoft.com/identity/claims/displayname",
)
ENCRYPTED = gettext_noop(
    "The provider encrypts its assertions. Turn that off there; they are signed, and travel by TLS."
)
# What the library and those below it raise for XML that they do not take.
ERRORS = (
    OneLogin_Saml2_Error,
    OneLogin_Saml2_ValidationError,
    LxmlError,
    XmlsecError,
    ValueError,
    TypeError,
    KeyError,
)


@dataclass(frozen=True)
class Service:
    """This installation as a service provider of one connection: its names at the identity provider."""

    entity_id: str
    acs_url: str


@dataclass(frozen=True)
class Provider:
    """What a provider's metadata says: certificates in base64 without line breaks."""

    entity_id: str
    sso_url: str
    certificates: tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """Which attributes hold the address and what roles are given by."""

    email_claim: str = ""
    role_claim: str = ""
    # The person has to have signed in there anew.
    again: bool = False


@dataclass(frozen=True)
class Answer:
    """A person, and the assertion that said so, which must not be taken a second time until it has expired."""

    person: Person
    assertion: bytes
    expires_at: dt.datetime


# --- Metadata --------------------------------------------------------------------------------------------


def fetch_metadata(url: str) -> str:
    """Raises Invalid when there is none at this address."""
    try:
        reply = fetch(Question(url, MAX_METADATA), for_sign_on())
    except Unreachable as error:
        said = _("The metadata cannot be read from there: %(why)s") % {"why": error}
        raise Invalid(said, pointer="/metadata_url") from error
    if reply.status != 200:
        said = _("The metadata cannot be read from there: the answer has status %(status)s.")
        raise Invalid(said % {"status": reply.status}, pointer="/metadata_url")
    return reply.body.decode("utf-8", "replace")


def read_metadata(text: str) -> Provider:
    """What a provider says about itself. Raises Invalid."""
    if len(text) > MAX_METADATA:
        raise _unusable(_("It has more than %(count)s characters.") % {"count": MAX_METADATA})
    try:
        found = OneLogin_Saml2_IdPMetadataParser.parse(text.encode()).get("idp", {})
    except ERRORS as error:
        raise _unusable(_("It is not XML, or declares entities.")) from error
    certificates = _certificates(found)
    url = found.get("singleSignOnService", {}).get("url", "")
    entity_id = found.get("entityId", "")
    if not entity_id or len(entity_id) > 1000:
        raise _unusable(_("It describes no identity provider."))
    if urlsplit(url).scheme not in ("https", "http"):
        raise _unusable(_("It names no address for the binding HTTP-Redirect."))
    if not certificates:
        raise _unusable(_("It holds no certificate for signatures."))
    return Provider(entity_id, url, certificates)


def _unusable(why: str) -> Invalid:
    said = _("This is no metadata of a SAML identity provider. %(why)s") % {"why": why}
    return Invalid(said, pointer="/metadata")


def _certificates(found: dict[str, object]) -> tuple[str, ...]:
    """Of signatures alone. Raises Invalid for one that cannot be read."""
    several = found.get("x509certMulti")
    listed = several.get("signing", []) if isinstance(several, dict) else [found.get("x509cert", "")]
    certificates = tuple(dict.fromkeys(str(one) for one in listed if one))[:MAX_CERTIFICATES]
    try:
        for one in certificates:
            x509.load_der_x509_certificate(base64.b64decode(one, validate=True))
    except ValueError as error:
        raise _unusable(_("A certificate in it cannot be read.")) from error
    return certificates


def service_metadata(service: Service) -> str:
    """What the provider is told of this side, as XML. It counts for a year from now."""
    until = dt.datetime.now(dt.UTC) + dt.timedelta(days=365)
    sent = _settings(service, None)
    security = {**sent["security"], "metadataValidUntil": f"{until:%Y-%m-%dT%H:%M:%SZ}"}
    text = OneLogin_Saml2_Settings({**sent, "security": security}, sp_validation_only=True).get_sp_metadata()
    return text if isinstance(text, str) else text.decode()


def _settings(service: Service, provider: Provider | None) -> dict[str, Any]:
    """As the library takes them: strict, with assertions that have to be signed, and by nothing older than SHA-256."""
    sent: dict[str, Any] = {
        "strict": True,
        "debug": False,
        "sp": {
            "entityId": service.entity_id,
            "assertionConsumerService": {
                "url": service.acs_url,
                "binding": OneLogin_Saml2_Constants.BINDING_HTTP_POST,
            },
            "NameIDFormat": OneLogin_Saml2_Constants.NAMEID_UNSPECIFIED,
        },
        "security": {
            "wantAssertionsSigned": True,
            "wantNameId": True,
            "wantAttributeStatement": False,
            "requestedAuthnContext": False,
            "rejectDeprecatedAlgorithm": True,
            "allowSingleLabelDomains": True,
        },
    }
    if provider is not None:
        sent["idp"] = {
            "entityId": provider.entity_id,
            "singleSignOnService": {
                "url": provider.sso_url,
                "binding": OneLogin_Saml2_Constants.BINDING_HTTP_REDIRECT,
            },
            "x509certMulti": {"signing": list(provider.certificates)},
        }
    return sent


# --- The question and the answer -------------------------------------------------------------------------


def authentication_url(service: Service, provider: Provider, *, again: bool = False) -> tuple[str, str]:
    """Where the browser is sent, and the id of the question; `again`: to sign in there anew. Raises Refused."""
    try:
        settings = OneLogin_Saml2_Settings(_settings(service, provider))
        request = OneLogin_Saml2_Authn_Request(settings, force_authn=again)
    except ERRORS as error:
        raise Refused(_("The provider's metadata cannot be used: %(why)s") % {"why": error}) from error
    return OneLogin_Saml2_Utils.redirect(
        provider.sso_url,
        {"SAMLRequest": request.get_request()},
        {"http_host": urlsplit(service.acs_url).netloc},
    ), request.get_id()


def question_of(encoded: str) -> str:
    """Which question a response says that it answers, before anything of it is believed. Raises Refused."""
    found = _parsed(encoded).get("InResponseTo", "")
    if not found or len(found) > 200:
        raise Refused(_("The provider sent a response that was not requested. Start on the sign-in page."))
    return found


def _parsed(encoded: str) -> OneLogin_Saml2_XML:
    if len(encoded) > MAX_RESPONSE:
        raise Refused(
            _("The provider's response has more than %(count)s characters.") % {"count": MAX_RESPONSE}
        )
    try:
        root = OneLogin_Saml2_XML.to_etree(base64.b64decode(encoded, validate=False))
    except ERRORS as error:
        raise Refused(_("The provider's response is not XML, or declares entities.")) from error
    if root.tag != f"{{{OneLogin_Saml2_Constants.NS_SAMLP}}}Response":
        raise Refused(_("The provider's response is not a SAML response."))
    return root


def verify(service: Service, provider: Provider, question: str, encoded: str, rules: Rules) -> Answer:
    """Who signed in, by a response to this question. Raises Refused; whether it was taken before is not known here."""
    _parsed(encoded)
    place = urlsplit(service.acs_url)
    request = {
        "https": "on" if place.scheme == "https" else "off",
        "http_host": place.netloc,
        "script_name": place.path,
    }
    try:
        settings = OneLogin_Saml2_Settings(_settings(service, provider))
        response = OneLogin_Saml2_Response(settings, encoded)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            response.is_valid(request, question, raise_exceptions=True)
        _check_assertion(response, service, question)
        if rules.again:
            _check_signed_in_now(response)
        return _answer_of(response, rules)
    except ERRORS as error:
        raise Refused(_explain(error, service, provider)) from error


def _explain(error: Exception, service: Service, provider: Provider) -> str:
    """The library's words, with what was expected where they leave it out."""
    code = getattr(error, "code", None)
    if code == OneLogin_Saml2_ValidationError.WRONG_AUDIENCE:
        return _("The provider's response is for another audience than %(expected)s.") % {
            "expected": service.entity_id
        }
    if code == OneLogin_Saml2_ValidationError.WRONG_ISSUER:
        said = _("The response was not issued by %(expected)s: %(why)s")
        return said % {"expected": provider.entity_id, "why": _plain(error)}
    if code == OneLogin_Saml2_Error.PRIVATE_KEY_NOT_FOUND:
        return _(
            "The provider encrypts its assertions. Turn that off there; they are signed, and travel by TLS."
        )
    return _("The provider's response is not valid: %(why)s") % {"why": _plain(error)}


def _plain(error: Exception) -> str:
    return "".join(sign for sign in str(error)[:300] if sign.isprintable())


def _check_assertion(response: OneLogin_Saml2_Response, service: Service, question: str) -> None:
    """What the library lets an assertion leave out. All of it is read below the signature. Raises Refused."""
    if response.encrypted:
        raise Refused(
            _(
                "The provider encrypts its assertions. Turn that off there; they are signed, and travel by TLS."
            )
        )
    audiences = response.get_audiences()
    if service.entity_id not in audiences:
        raise Refused(
            _("The provider says audience %(found)s, expected %(expected)s.")
            % {"found": ", ".join(audiences)[:300] or "–", "expected": service.entity_id}
        )
    destination = response.document.get("Destination")
    if destination is not None and destination != service.acs_url:
        raise Refused(
            _("The response was sent to %(found)s, expected %(expected)s.")
            % {"found": destination[:300], "expected": service.acs_url}
        )
    if not any(_confirms(node, service, question) for node in response._query_assertion(_CONFIRMATION)):
        raise Refused(
            _(
                "The assertion does not say that it answers this browser's question, here, and until when it counts."
            )
        )


def _check_signed_in_now(response: OneLogin_Saml2_Response) -> None:
    """Providers may overlook ForceAuthn; the assertion says when they asked. Raises Refused."""
    [statement] = response._query_assertion("/saml:AuthnStatement")
    when = OneLogin_Saml2_Utils.parse_SAML_to_time(statement.get("AuthnInstant"))
    if when < OneLogin_Saml2_Utils.now() - MOST_AGO_S:
        raise Refused(_("The provider does not say that you have signed in there just now (AuthnInstant)."))


_CONFIRMATION = "/saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData"


def _confirms(node: OneLogin_Saml2_XML, service: Service, question: str) -> bool:
    until = node.get("NotOnOrAfter")
    return (
        node.getparent().get("Method") == OneLogin_Saml2_Constants.CM_BEARER
        and node.get("InResponseTo") == question
        and node.get("Recipient") == service.acs_url
        and until is not None
        and OneLogin_Saml2_Utils.parse_SAML_to_time(until) > OneLogin_Saml2_Utils.now()
    )


def _answer_of(response: OneLogin_Saml2_Response, rules: Rules) -> Answer:
    named = response.get_nameid_data()
    subject, kind = str(named.get("Value", "")), named.get("Format", "")
    if kind == TRANSIENT:
        raise Refused(
            _(
                "The provider names the person by a transient NameID, which is another one each time. "
                "Choose a persistent one."
            )
        )
    attributes = response.get_attributes()
    email = _email(attributes, rules, subject, kind)
    values = texts([v for v in attributes.get(rules.role_claim, []) if isinstance(v, str)])
    person = checked(Person(subject, email, _first(attributes, NAME_ATTRIBUTES), values))
    until = dt.datetime.fromtimestamp(_latest(response), dt.UTC)
    return Answer(person, hashlib.sha256(response.get_assertion_id().encode()).digest(), until)


def _email(attributes: dict[str, list[str]], rules: Rules, subject: str, kind: str) -> str:
    if rules.email_claim:
        found = _first(attributes, [rules.email_claim])
    else:
        found = _first(attributes, EMAIL_ATTRIBUTES)
        if not found and (kind == EMAIL_FORMAT or "@" in subject):
            found = subject
    if "@" not in found:
        raise Refused(
            _("The provider sends no e-mail address. Attributes that it sends: %(names)s.")
            % {"names": ", ".join(sorted(attributes))[:500] or "–"}
        )
    return found


def _first(attributes: dict[str, list[str]], names: Iterable[str]) -> str:
    """The first value of the first of these attributes that has one."""
    return next((v for name in names for v in attributes.get(name, []) if isinstance(v, str) and v), "")


def _latest(response: OneLogin_Saml2_Response) -> int:
    """Until when the assertion could be shown again, in seconds since 1970; with the clocks' difference allowed for."""
    ends = [node.get("NotOnOrAfter") for node in response._query_assertion("/saml:Conditions")]
    ends += [node.get("NotOnOrAfter") for node in response._query_assertion(_CONFIRMATION)]
    drift = OneLogin_Saml2_Constants.ALLOWED_CLOCK_DRIFT
    return max(int(OneLogin_Saml2_Utils.parse_SAML_to_time(end)) for end in ends if end) + drift
