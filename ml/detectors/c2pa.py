"""Content credentials (C2PA): who signed the file, what they say about its making, and whether it was changed since.

Four answers that must not be mixed up: ``absent`` (no manifest: most files), ``trusted`` (intact, and the signer chains
to an anchor that the tenant or this installation believes), ``valid`` (intact, but anybody may have signed it) and
``invalid`` (changed, transplanted or damaged). What was not read is ``not_examined``, never ``absent``.

A time stamp (RFC 3161) over the signature is verified as well: that it stamps this signature and was signed by whose
certificate it names, and whether that authority is one that this installation believes (``time_stamp_anchors``). It
tells when the signature was there already, and nothing of who signed.

The SDK calls a file invalid as well where only the certificate is at fault, for instance because it has expired since.
That says who may have signed, not that anything was changed: such a file is ``valid``, and ``certificate`` says why its
signer is not believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from ml.detectors.base import Detector, Finding, Item
from ml.media.model import File
from ml.provenance._sdk import context
from ml.provenance.anchors import normalise_anchors
from ml.provenance.credentials import ai_kind, manifest_tree, sanitize_text, source_type_code

STATES = {"Trusted": "trusted", "Valid": "valid", "Invalid": "invalid"}
#: Failures that are about the signer alone (C2PA 2.2, section 15.2.2): of credentials and of time stamps.
SIGNER_ONLY = ("signingCredential.", "timeStamp.")
#: What must have been verified before a file counts as intact: the claim's signature, and the content's own hash.
SIGNED = "claimSignature.validated"
CONTENT = re.compile(r"assertion\.(?:dataHash|bmffHash|boxesHash|collectionHash|multiAssetHash)\.match")
#: Why a signer is not believed, the weightiest first.
CERTIFICATES = {
    "signingCredential.ocsp.revoked": "revoked",
    "signingCredential.revoked": "revoked",
    "signingCredential.expired": "expired",
    "signingCredential.invalid": "unsuitable",
}
STAMPED, TRUSTED_STAMP = "timeStamp.validated", "timeStamp.trusted"
UNTRUSTED_STAMP = "timeStamp.untrusted"
SOUND_STAMPS = frozenset({STAMPED, TRUSTED_STAMP, UNTRUSTED_STAMP})
#: The type of a manifest store's outer JUMBF box: where these bytes stand, a manifest stood once.
STORE = bytes.fromhex("63327061 00110010 800000aa 00389b71")
MAX_LISTED, MAX_NODES = 20, 50_000
_EMPTY: Mapping[str, Any] = {}


class C2pa(Detector):
    name = "c2pa"
    version = "3"
    tier = "cryptographic"
    modalities: ClassVar = frozenset({"image", "audio", "video"})
    sees = "Signed content credentials, whether the file was changed after signing, and who signed."
    blind_to = (
        "Files without credentials, among them everything saved again by most software; credentials that are stored"
        " elsewhere, which are never fetched; WebM, Ogg and BMP."
    )
    timeout_s = 60.0
    order = 10
    looks_for = ("content_credentials",)

    def examine(self, item: Item) -> Finding:
        if item.path is None or not _readable(item.media_type):
            reason = f"Content credentials cannot be read from {sanitize_text(item.media_type, 60) or 'such items'}."
            return Finding("not_applicable", reason, fields=_not_examined(reason))
        if item.path.stat().st_size == 0:
            return Finding("failed", "The file is empty.", fields=_not_examined("The file is empty."))
        own = normalise_anchors(item.options.get("own_anchors") or "")
        anchors = normalise_anchors(item.options.get("trust_anchors") or "")
        stamps = normalise_anchors(item.options.get("time_stamp_anchors") or "")
        return _examine(item.path, item.media_type, own, anchors, stamps)


def load(argument: str) -> Detector:
    return C2pa()


def _readable(media_type: str) -> bool:
    import c2pa

    return media_type in c2pa.Reader.get_supported_mime_types()


def _examine(path: File, media_type: str, own: str, anchors: str, stamps: str) -> Finding:
    import c2pa

    try:
        # Both are believed, but only one of them is us; with both in play, who it was takes a second look.
        report = _read(path, media_type, own + anchors)
        is_own = bool(own) and _state(report) == "trusted"
        if is_own and anchors:
            is_own = _state(_read(path, media_type, own)) == "trusted"
        # A look of its own: whoever is trusted for times is not for signatures, which the SDK does not tell apart.
        known = (
            bool(stamps)
            and _is_stamped(report)
            and TRUSTED_STAMP in _codes_of(_read(path, media_type, stamps))
        )
        return _finding(report, is_own, _time_stamp(report, known))
    except c2pa.C2paError.ManifestNotFound:
        return _damaged("no manifest can be found") if _has_store(path) else _absent()
    except c2pa.C2paError as error:
        return _unread(sanitize_text(str(error)), path)


def _read(path: File, media_type: str, anchors: str) -> dict[str, Any]:
    import c2pa

    with path.open("rb") as file, c2pa.Reader(media_type, file, None, context=context(anchors)) as reader:
        report: dict[str, Any] = json.loads(reader.json())
    return report


def _unread(message: str, path: File) -> Finding:
    if remote := re.match(r"Remote(?:Manifest)?: .*?(?<!\w)(\w++://\S+)", message):
        reason = "It names content credentials that are stored elsewhere; nothing is fetched."
        fields = _not_examined(reason)
        return Finding("abstained", reason, fields={"c2pa": fields["c2pa"] | {"remote": remote.group(1)}})
    if _has_store(path):
        return _damaged(message)
    reason = f"The file cannot be parsed: {message}"
    return Finding("failed", reason, fields=_not_examined(reason))


def _has_store(path: File) -> bool:
    kept = b""
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            if STORE in kept + piece:
                return True
            kept = piece[1 - len(STORE) :]
    return False


def _state(report: Mapping[str, Any]) -> str:
    state = STATES.get(str(report.get("validation_state")), "invalid")
    return "valid" if state == "invalid" and _is_intact(report) else state


def _is_intact(report: Mapping[str, Any]) -> bool:
    """Whether signature and content were verified, and nothing failed but what is about signers."""
    results = _dict(report.get("validation_results"))
    passed = [
        str(_dict(one).get("code")) for one in _list(_dict(results.get("activeManifest")).get("success"))
    ]
    failed = [code for code in _failure_codes(results) if not code.startswith(SIGNER_ONLY)]
    return not failed and SIGNED in passed and any(map(CONTENT.fullmatch, passed))


def _certificate(report: Mapping[str, Any], state: str) -> str:
    """Of who signed the file itself: `trusted`, `untrusted`, `expired`, `revoked` or `unsuitable`."""
    active = _dict(_dict(report.get("validation_results")).get("activeManifest"))
    failed = {str(_dict(one).get("code")) for one in _list(active.get("failure"))}
    why = next((name for code, name in CERTIFICATES.items() if code in failed), "untrusted")
    return "trusted" if state == "trusted" else why


def _failure_codes(results: Mapping[str, Any]) -> list[str]:
    """Of the active manifest and of all that it was made from."""
    found = _list(_dict(results.get("activeManifest")).get("failure"))
    for delta in _list(results.get("ingredientDeltas")):
        found = found + _list(_dict(_dict(delta).get("validationDeltas")).get("failure"))
    return [str(_dict(one).get("code")) for one in found]


# --- Time stamps ---


def _codes_of(report: Mapping[str, Any]) -> set[str]:
    """Of the active manifest, whatever they mean."""
    active = _dict(_dict(report.get("validation_results")).get("activeManifest"))
    return {str(_dict(one).get("code")) for entries in active.values() for one in _list(entries)}


def _is_stamped(report: Mapping[str, Any]) -> bool:
    return STAMPED in _codes_of(report)


def _time_stamp(report: Mapping[str, Any], known: bool) -> dict[str, str]:
    """`state`: `trusted`, `unknown-authority` (verified, by an authority that nobody named here), or `invalid`; with
    `at` where it was verified. Empty for none."""
    codes = _codes_of(report)
    wrong = sorted(code for code in codes if code.startswith("timeStamp.") and code not in SOUND_STAMPS)
    if STAMPED not in codes:
        # Whose certificate is not believed, and whose signature does not hold besides.
        wrong += sorted(codes & {UNTRUSTED_STAMP})
    if wrong:
        return {"state": "invalid", "why": wrong[0]}
    if STAMPED not in codes:
        return {}
    manifest = _dict(_dict(report.get("manifests")).get(str(report.get("active_manifest"))))
    at = sanitize_text(_dict(manifest.get("signature_info")).get("time"), 40)
    return {"state": "trusted" if known else "unknown-authority", "at": at, "authority": _authority(report)}


def _authority(report: Mapping[str, Any]) -> str:
    """The name in its certificate, which the SDK tells in words alone."""
    active = _dict(_dict(report.get("validation_results")).get("activeManifest"))
    words = [
        str(one.get("explanation"))
        for one in map(_dict, _list(active.get("success")))
        if one.get("code") == STAMPED
    ]
    return sanitize_text(words[0].partition(": ")[2], 100) if words else ""


# --- Findings ---


def _not_examined(reason: str) -> dict[str, Any]:
    return {"c2pa": {"state": "not_examined", "reason": reason, "own": False, "ai": False}}


def _absent() -> Finding:
    return Finding(fields={"c2pa": {"state": "absent", "own": False, "ai": False}})


def _damaged(why: str) -> Finding:
    code = {"code": "manifest.unreadable", "explanation": why}
    fields = {"state": "invalid", "own": False, "ai": False, "codes": [code]}
    return Finding(evidence=[{"kind": "c2pa", "state": "invalid", "codes": [code]}], fields={"c2pa": fields})


def _finding(report: dict[str, Any], own: bool, time_stamp: Mapping[str, str]) -> Finding:
    manifests = _dict(report.get("manifests"))
    active = str(report.get("active_manifest"))
    manifest = _dict(manifests.get(active))
    here = _source_types(manifest)
    before = [code for label, other in manifests.items() if label != active for code in _source_types(other)]
    kind_here, kind_before = ai_kind(here), ai_kind(before)
    state = _state(report)
    fields = {
        "state": state,
        "certificate": _certificate(report, state),
        "own": own,
        "ai": bool(kind_here or kind_before),
        # What an edited picture was made from may be generated although the edit is not, and the other way round.
        "ai_kind": kind_here or kind_before,
        "ai_in": "manifest" if kind_here else "ingredient" if kind_before else "",
        "source_types": sorted({*here, *before})[:MAX_LISTED],
        "generator": _generator(manifest),
        "title": sanitize_text(manifest.get("title")),
        "signer": _signer(manifest),
        "signed_at": sanitize_text(_dict(manifest.get("signature_info")).get("time"), 40),
        "time_stamp": dict(time_stamp),
        "actions": [_action(action) for action in _actions(manifest)[:MAX_LISTED]],
        "ingredients": len(_list(manifest.get("ingredients"))),
        "manifests": len(manifests),
        "codes": _codes(report),
        "tree": manifest_tree(report),
    }
    shown = {
        name: fields[name] for name in ("state", "certificate", "own", "ai", "generator", "signer", "codes")
    }
    return Finding(evidence=[{"kind": "c2pa", **shown}], fields={"c2pa": fields})


def _signer(manifest: Mapping[str, Any]) -> dict[str, str]:
    info = _dict(manifest.get("signature_info"))
    names = {
        "organisation": "issuer",
        "name": "common_name",
        "serial": "cert_serial_number",
        "algorithm": "alg",
    }
    return {ours: sanitize_text(info.get(theirs)) for ours, theirs in names.items()}


def _generator(manifest: Mapping[str, Any]) -> str:
    infos = [_dict(info) for info in _list(manifest.get("claim_generator_info"))]
    names = [
        sanitize_text(f"{info.get('name') or ''} {info.get('version') or ''}".strip(), 100) for info in infos
    ]
    return ", ".join(names[:3]) or sanitize_text(manifest.get("claim_generator"))


def _actions(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    assertions = [_dict(assertion) for assertion in _list(manifest.get("assertions"))]
    kept = [a for a in assertions if str(a.get("label")).startswith("c2pa.actions")]
    return [_dict(action) for a in kept for action in _list(_dict(a.get("data")).get("actions"))]


def _action(action: Mapping[str, Any]) -> dict[str, str]:
    agent = action.get("softwareAgent")
    return {
        "action": sanitize_text(action.get("action"), 80),
        "when": sanitize_text(action.get("when"), 40),
        "software": sanitize_text(agent.get("name") if isinstance(agent, dict) else agent, 100),
        "source_type": source_type_code(action.get("digitalSourceType")),
    }


def _source_types(manifest: Any) -> list[str]:
    """Every digital source type that a manifest's assertions and ingredients name."""
    named = [
        value
        for key, value in _pairs(manifest)
        if key in ("digitalSourceType", "digital_source_type", "Iptc4xmpExt:DigitalSourceType")
    ]
    return [code for code in map(source_type_code, named) if code]


def _pairs(node: Any) -> Iterator[tuple[str, Any]]:
    """Keys and values at any depth, the first ``MAX_NODES`` of them."""
    stack, seen = [node], 0
    while stack and seen < MAX_NODES:
        node, seen = stack.pop(), seen + 1
        if isinstance(node, dict):
            yield from node.items()
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)


def _codes(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """What failed, of the active manifest first; an unknown signer alone leaves a manifest valid."""
    results = _dict(report.get("validation_results"))
    failures = _list(_dict(results.get("activeManifest")).get("failure"))
    for delta in _list(results.get("ingredientDeltas"))[:MAX_LISTED]:
        failures = failures + _list(_dict(_dict(delta).get("validationDeltas")).get("failure"))
    return [
        {
            "code": sanitize_text(_dict(f).get("code"), 80),
            "explanation": sanitize_text(_dict(f).get("explanation")),
        }
        for f in failures[:MAX_LISTED]
    ]


def _dict(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _EMPTY


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
