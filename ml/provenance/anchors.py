"""Trust anchors: the certificates that a tenant believes, as PEM text."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

MAX_PEM = 1 << 20
MAX_ANCHORS = 500


def check_anchors(pem: str) -> list[str]:
    """The subjects of the certificates in ``pem``, in order. Raises ValueError, in words for a person."""
    return [certificate.subject.rfc4514_string()[:300] for certificate in _load(pem)]


def normalise_anchors(pem: str) -> str:
    """The certificates alone, without the remarks and keys that people paste along. "" for no anchors."""
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in _load(pem))


def _load(pem: str) -> list[x509.Certificate]:
    if not isinstance(pem, str) or len(pem) > MAX_PEM:
        raise ValueError(f"Trust anchors are PEM text of at most {MAX_PEM:,} characters.")
    if not pem.strip():
        return []
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode("utf-8", "replace"))
    except ValueError as error:
        raise ValueError(
            "Trust anchors are certificates in PEM, each from -----BEGIN CERTIFICATE----- to"
            f" -----END CERTIFICATE-----: {str(error)[:200]}"
        ) from None
    if len(certificates) > MAX_ANCHORS:
        raise ValueError(f"There are {len(certificates)} trust anchors; at most {MAX_ANCHORS} are allowed.")
    return certificates
