"""Content credentials: every state, other people's signatures, damage, and no call to anybody."""

from __future__ import annotations

import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ml.detectors.base import Finding, Item, load_detector
from ml.detectors.c2pa import _state
from ml.provenance import credentials
from ml.provenance.anchors import check_anchors, normalise_anchors
from ml.provenance.signing import SIGNABLE, Keys, load_keys, sign
from tests.ml.provenance_files import (
    declared_and_expired,
    declared_by_a_stranger,
    every_format,
    picture,
    tampered,
    xmp,
)

FORMATS = sorted(SIGNABLE)
Look = Callable[..., Finding]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return load_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return load_keys(tmp_path_factory.mktemp("others"), "Somebody else")


@pytest.fixture(scope="module")
def plain_files() -> dict[str, bytes]:
    return every_format()


@pytest.fixture
def look(tmp_path: Path) -> Look:
    detector = load_detector("c2pa")

    def look(content: bytes, media_type: str, **options: Any) -> Finding:
        path = tmp_path / "file"
        path.write_bytes(content)
        return detector.examine(Item("image", media_type, path, options=options))

    return look


def shown(finding: Finding) -> dict[str, Any]:
    fields: dict[str, Any] = finding.fields["c2pa"]
    return fields


@pytest.mark.parametrize("media_type", FORMATS)
def test_the_states_are_kept_apart(
    look: Look, keys: Keys, others: Keys, plain_files: dict[str, bytes], media_type: str
) -> None:
    content = plain_files[media_type]
    signed = sign(keys, content, media_type)

    def state(**options: Any) -> tuple[str, bool]:
        fields = shown(look(signed, media_type, **options))
        return fields["state"], fields["own"]

    assert shown(look(content, media_type))["state"] == "absent"
    assert state() == ("valid", False)
    assert state(own_anchors=keys.root) == ("trusted", True)
    assert state(trust_anchors=keys.root) == ("trusted", False)
    assert state(trust_anchors=others.root) == ("valid", False)
    assert state(trust_anchors=others.root, own_anchors=keys.root) == ("trusted", True)
    assert state(trust_anchors=keys.root, own_anchors=others.root) == ("trusted", False)


@pytest.mark.parametrize("media_type", FORMATS)
def test_changed_content_is_invalid_and_says_why(
    look: Look, keys: Keys, plain_files: dict[str, bytes], media_type: str
) -> None:
    signed = bytearray(sign(keys, plain_files[media_type], media_type))
    mark = {"image/png": b"IDAT", "video/mp4": b"mdat", "audio/wav": b"data"}.get(media_type)
    signed[signed.index(mark) + 40 if mark else len(signed) - 40] ^= 1

    fields = shown(look(bytes(signed), media_type, own_anchors=keys.root))

    assert (fields["state"], fields["own"]) == ("invalid", False)
    assert [code["code"] for code in fields["codes"]] == [
        "assertion.bmffHash.mismatch" if media_type == "video/mp4" else "assertion.dataHash.mismatch"
    ]


def test_what_is_shown_of_a_manifest(look: Look, keys: Keys) -> None:
    when = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    signed = sign(
        keys,
        picture("PNG"),
        "image/png",
        title="a \u202ecat\n",
        made_by="flow-1",
        details={"seed": 7},
        when=when,
    )

    fields = shown(look(signed, "image/png", own_anchors=keys.root))

    assert fields["generator"] == "Crosslight 1"
    assert fields["title"] == "a cat"
    assert fields["signer"]["name"] == "Crosslight signer"
    assert (fields["ai"], fields["ai_kind"], fields["ai_in"]) == (True, "generated", "manifest")
    assert fields["source_types"] == ["trainedAlgorithmicMedia"]
    assert fields["actions"] == [
        {
            "action": "c2pa.created",
            "when": "2026-03-01T12:30:00Z",
            "software": "flow-1",
            "source_type": "trainedAlgorithmicMedia",
        }
    ]
    assert (fields["ingredients"], fields["manifests"], fields["codes"]) == (0, 1, [])
    json.dumps(fields)


def test_a_photo_that_was_generated_before_it_was_edited(look: Look, keys: Keys) -> None:
    import c2pa

    generated = sign(keys, picture("JPEG"), "image/jpeg", made_by="flow-1")
    manifest = {
        "claim_generator_info": [{"name": "An editor"}],
        "ingredients": [{"title": "original", "relationship": "parentOf", "label": "first"}],
        "assertions": [
            {
                "label": "c2pa.actions.v2",
                "data": {"actions": [{"action": "c2pa.opened", "parameters": {"ingredientIds": ["first"]}}]},
            }
        ],
    }
    info = c2pa.C2paSignerInfo(b"es256", keys.chain, keys.key, None)
    target = io.BytesIO()
    with c2pa.Signer.from_info(info) as signer, c2pa.Builder(manifest) as builder:
        builder.add_ingredient(manifest["ingredients"][0], "image/jpeg", io.BytesIO(generated))
        builder.sign(signer, "image/jpeg", io.BytesIO(generated), target)

    fields = shown(look(target.getvalue(), "image/jpeg", own_anchors=keys.root))

    assert (fields["ai"], fields["ai_kind"], fields["ai_in"]) == (True, "generated", "ingredient")
    assert fields["ingredients"] >= 1 and fields["manifests"] == 2


def test_somebody_elses_manifest_around_other_pixels_is_invalid(look: Look, keys: Keys) -> None:
    signed, other = sign(keys, picture("PNG", 1), "image/png"), picture("PNG", 2)
    at = signed.index(b"caBX") - 4
    box = signed[at : at + 12 + int.from_bytes(signed[at : at + 4])]

    found = look(other[:33] + box + other[33:], "image/png", own_anchors=keys.root)

    assert shown(found)["state"] == "invalid"


# --- What is about the signer is not about the file ---


def test_an_unknown_signer_has_changed_nothing(look: Look) -> None:
    fields = shown(look(declared_by_a_stranger(), "image/png"))
    assert (fields["state"], fields["certificate"], fields["ai"]) == ("valid", "untrusted", True)
    assert fields["signer"]["organisation"] == "OpenAI"


def test_an_expired_certificate_has_changed_nothing(look: Look) -> None:
    """The SDK's own state of such a file is "Invalid", as of one whose pixels were changed."""
    signed, root = declared_and_expired()
    for anchors in ("", root):
        fields = shown(look(signed, "image/png", trust_anchors=anchors))
        assert (fields["state"], fields["certificate"], fields["ai"]) == ("valid", "expired", True)
        assert fields["own"] is False
        assert "signingCredential.expired" in [code["code"] for code in fields["codes"]]


@pytest.mark.parametrize("expired", [False, True])
def test_changed_pixels_are_changed_whoever_signed(look: Look, expired: bool) -> None:
    signed = declared_and_expired()[0] if expired else declared_by_a_stranger()
    fields = shown(look(tampered(signed), "image/png"))
    assert fields["state"] == "invalid"
    assert "assertion.dataHash.mismatch" in [code["code"] for code in fields["codes"]]
    assert fields["ai"] is True


def test_a_changed_manifest_is_changed_whoever_signed(look: Look) -> None:
    signed = bytearray(declared_and_expired()[0])
    signed[signed.index(b"trainedAlgorithmicMedia")] ^= 1
    assert shown(look(bytes(signed), "image/png"))["state"] == "invalid"


def test_a_trusted_signer_is_named_so(look: Look, keys: Keys) -> None:
    signed = sign(keys, picture("PNG"), "image/png")
    assert shown(look(signed, "image/png", own_anchors=keys.root))["certificate"] == "trusted"


@pytest.mark.parametrize(
    ("passed", "failed", "state"),
    [
        # The pinned SDK cannot be made to write these; others can, and standards name the codes.
        (["claimSignature.validated", "assertion.dataHash.match"], ["signingCredential.invalid"], "valid"),
        (["claimSignature.validated", "assertion.bmffHash.match"], ["timeStamp.mismatch"], "valid"),
        (["claimSignature.validated"], ["signingCredential.expired"], "invalid"),
        (["assertion.dataHash.match"], ["signingCredential.invalid"], "invalid"),
        (
            ["claimSignature.validated", "assertion.dataHash.match"],
            ["assertion.hashedURI.mismatch"],
            "invalid",
        ),
        (["claimSignature.validated", "assertion.dataHash.match"], ["general.error"], "invalid"),
    ],
)
def test_only_what_is_about_the_signer_is_forgiven(passed: list[str], failed: list[str], state: str) -> None:
    def codes(names: list[str]) -> list[dict[str, str]]:
        return [{"code": name} for name in names]

    active = {"success": codes(passed), "failure": codes(failed)}
    report = {"validation_state": "Invalid", "validation_results": {"activeManifest": active}}
    assert _state(report) == state
    ingredient = {"validationDeltas": {"failure": codes(failed)}}
    report["validation_results"] = {
        "activeManifest": {"success": codes(passed), "failure": []},
        "ingredientDeltas": [ingredient],
    }
    assert _state(report) == state


def test_saving_again_removes_it(look: Look, keys: Keys) -> None:
    signed, target = sign(keys, picture("JPEG"), "image/jpeg"), io.BytesIO()
    Image.open(io.BytesIO(signed)).save(target, "JPEG")
    assert shown(look(target.getvalue(), "image/jpeg"))["state"] == "absent"


@pytest.mark.parametrize(
    ("media_type", "content"),
    [("video/webm", b"\x1aE\xdf\xa3"), ("image/bmp", b"BM"), ("application/x-\u202enonsense", b"")],
)
def test_what_cannot_be_read_is_not_examined(look: Look, media_type: str, content: bytes) -> None:
    found = look(content, media_type)
    assert found.state == "not_applicable"
    assert shown(found)["state"] == "not_examined"
    assert shown(found)["reason"] == found.reason != ""


def test_files_that_cannot_be_parsed_are_not_absent(look: Look) -> None:
    for content in (b"", b"\x89PNG\r\n\x1a\n", picture("PNG")[:200], b"nonsense" * 20):
        found = look(content, "image/png")
        assert (found.state, shown(found)["state"]) == ("failed", "not_examined")


def test_remains_of_a_manifest_are_invalid(look: Look, keys: Keys) -> None:
    signed = sign(keys, picture("JPEG"), "image/jpeg")
    box = signed.index(b"jumb")
    for content in (
        signed[:40] + signed[43:],
        signed[:box] + b"JUMB" + signed[box + 4 :],
        signed[: box + 400],
    ):
        found = look(content, "image/jpeg", own_anchors=keys.root)
        assert shown(found)["state"] == "invalid"
        assert shown(found)["codes"]


@pytest.mark.parametrize("media_type", FORMATS)
def test_flipping_any_bit_never_makes_a_lie(
    look: Look, keys: Keys, plain_files: dict[str, bytes], media_type: str
) -> None:
    """Where a flip is not noticed (padding), what is shown has not changed either."""
    signed = sign(keys, plain_files[media_type], media_type)
    truth = shown(look(signed, media_type, own_anchors=keys.root))
    for at in range(0, len(signed), max(1, len(signed) // 60)):
        copy = bytearray(signed)
        copy[at] ^= 0x10
        fields = shown(look(bytes(copy), media_type, own_anchors=keys.root))
        if fields["state"] == "trusted":
            assert fields == truth


def test_anchors_that_are_none_are_an_error_not_a_weaker_answer(look: Look, keys: Keys) -> None:
    signed = sign(keys, picture("PNG"), "image/png")
    for nonsense in ("hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"):
        with pytest.raises(ValueError, match="certificates in PEM"):
            look(signed, "image/png", trust_anchors=nonsense)


def test_anchors_are_kept_without_what_stands_around_them(keys: Keys) -> None:
    pasted = f"my root\n{keys.root}\nthanks"
    assert normalise_anchors(pasted) == keys.root
    assert normalise_anchors(" \n") == ""
    assert check_anchors(keys.root + keys.root) == ["CN=Crosslight root,O=Crosslight"] * 2


# --- Nobody is called ---


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    calls: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            calls.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listening.server_port}/store.c2pa", calls
    listening.shutdown()
    listening.server_close()


def test_a_manifest_elsewhere_is_not_fetched(look: Look, server: tuple[str, list[str]]) -> None:
    import c2pa

    url, calls = server
    content = picture("JPEG", xmp=xmp(f'dcterms:provenance="{url}"'))
    with pytest.raises(c2pa.C2paError):
        c2pa.Reader("image/jpeg", io.BytesIO(content))
    assert calls == ["/store.c2pa"]  # with the library's defaults it is

    found = look(content, "image/jpeg")

    assert calls == ["/store.c2pa"]
    assert found.state == "abstained"
    assert (shown(found)["state"], shown(found)["remote"]) == ("not_examined", url)


# --- Keys ---


def test_keys_are_made_once_and_readable_by_their_owner_only(tmp_path: Path) -> None:
    first = load_keys(tmp_path / "keys")
    assert load_keys(tmp_path / "keys") == first
    for name in ("root.key", "signer.key", "root.pem", "signer.pem"):
        assert (tmp_path / "keys" / name).stat().st_mode & 0o777 == 0o600


def test_a_leaf_without_its_key_is_issued_anew_by_the_same_root(tmp_path: Path, look: Look) -> None:
    first = load_keys(tmp_path)
    (tmp_path / "signer.key").write_bytes(load_keys(tmp_path / "elsewhere").key)
    second = load_keys(tmp_path)
    assert second.root == first.root and second.chain != first.chain
    signed = sign(second, picture("PNG"), "image/png")
    assert shown(look(signed, "image/png", own_anchors=first.root))["own"] is True


def test_a_root_without_its_key_is_an_error(tmp_path: Path) -> None:
    load_keys(tmp_path)
    (tmp_path / "root.key").write_bytes(load_keys(tmp_path / "elsewhere").key)
    (tmp_path / "signer.pem").unlink()
    with pytest.raises(ValueError, match="backup"):
        load_keys(tmp_path)


def test_other_formats_are_refused(keys: Keys) -> None:
    with pytest.raises(ValueError, match="image/png"):
        sign(keys, b"", "video/webm")


def test_what_fails_of_an_ingredient_stands_at_that_one() -> None:
    """Every manifest's first ingredient has the same label."""
    label = "c2pa.ingredient.v3"

    def one(name: str, inner: str) -> dict:
        return {"ingredients": [{"title": name, "label": label, "active_manifest": inner}]}

    def delta(manifest: str, *codes: str) -> dict:
        failure = [{"code": code} for code in codes]
        address = f"self#jumbf=/c2pa/{manifest}/c2pa.assertions/{label}"
        return {"ingredientAssertionURI": address, "validationDeltas": {"failure": failure}}

    report = {
        "active_manifest": "a",
        "manifests": {"a": one("b", "b"), "b": one("c", "c"), "c": {}},
        "validation_results": {"ingredientDeltas": [delta("a", "assertion.hash.mismatch"), delta("b")]},
    }
    [first] = credentials.manifest_tree(report)["ingredients"]
    [second] = first["claim"]["ingredients"]
    assert first["problems"] == ["assertion.hash.mismatch"]
    assert second["problems"] == []
