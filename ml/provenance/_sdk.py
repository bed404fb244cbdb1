"""c2pa-python set up so that it never opens a connection, whatever a file asks for.

Four things in the SDK can reach the network: manifests stored elsewhere (named in XMP), OCSP, identity assertions
(did:web) and time stamps while signing. Each is off, and no host is allowed. A settings path that the SDK does not know
is accepted silently, so a test and ``make bench-audit`` watch a local server that hostile files point to.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

#: What a compressed manifest may grow to, and what the SDK keeps of a file in memory.
MAX_MANIFEST_MB = 16

_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "verify": {
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
        "verify_trust": True,
        "verify_timestamp_trust": True,
    },
    "core": {
        "allowed_network_hosts": [],
        "allow_redirects": False,
        "decode_identity_assertions": False,
        "max_decompressed_manifest_size_in_mb": MAX_MANIFEST_MB,
    },
    "builder": {"thumbnail": {"enabled": False}},
}


@lru_cache(maxsize=16)
def context(anchors: str = "") -> Any:
    """A ``c2pa.Context`` that trusts the certificates of ``anchors`` (PEM) and nobody else."""
    # The log of the native library goes to standard error, file contents and all.
    os.environ.setdefault("RUST_LOG", "off")
    import c2pa

    trust = {"trust": {"trust_anchors": anchors}} if anchors else {}
    return c2pa.Context.from_dict({**_SETTINGS, **trust})
