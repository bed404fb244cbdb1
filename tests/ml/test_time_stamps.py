"""Signatures with a time stamp (RFC 3161) by a real authority: what is made, and what readers make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.detectors.base import Item, load_detector
from ml.generators import _marked
from ml.generators._marked import MarkedGenerator, time_stamped
from ml.generators.base import GenerationParams, Kind, MarkedOutput, Marker, RawOutput
from ml.generators.studio import Studio
from ml.provenance import signing
from tenants.events import ssrf_guard, time_stamps
from tests.ml.generator_parts import Drawing, blob, flat, marker, smooth, tune
from tests.tenants.time_stamping import Authority, authority

WISH = GenerationParams("a red apple", seed=3, width=256, height=256, seconds=2.0)
DRAWS: dict[Kind, Callable[[GenerationParams], RawOutput]] = {
    "image": lambda params: RawOutput(pixels=smooth()),
    "video": lambda params: RawOutput(frames=np.stack([smooth()] * 8), fps=8, sound=tune(2.5)),
    "audio": lambda params: RawOutput(sound=tune()),
}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Authority, str]]:
    with authority(tmp_path_factory.mktemp("tsa") / "own") as found:
        yield found


@pytest.fixture
def tsa(running: tuple[Authority, str]) -> Authority:
    found = running[0]
    found.refuses = found.garbles = False
    return found


def asks(tsa: Authority, url: str, roots: Path | None = None) -> Callable[[bytes], bytes]:
    allowed = ssrf_guard.Allowance(http=True, ports=("1-65535",), hosts=(), networks=("127.0.0.0/8",))
    asked = time_stamps.Authority(url, str(roots or tsa.root), allowed, 5.0)

    def ask(message: bytes) -> bytes:
        try:
            return time_stamps.token_of(time_stamps.stamp(asked, message))
        except time_stamps.Unstamped as error:
            raise signing.NoTimeStamp(str(error)) from error

    return ask


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Marker:
    return marker(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def keys(plain: Marker, tsa: Authority, running: tuple[Authority, str]) -> Marker:
    return replace(plain, time_stamp=asks(*running), time_stamp_roots=tsa.root.read_text())


def made(kind: Kind, keys: Marker) -> MarkedOutput:
    [found] = MarkedGenerator(Drawing(kind, DRAWS[kind]), keys).make([WISH])
    return found


def read(
    one: MarkedOutput, keys: Marker, folder: Path, content: bytes = b"", **options: str
) -> dict[str, Any]:
    """What an audit reads in it."""
    path = folder / "made"
    path.write_bytes(content or one.content)
    given = {"own_anchors": keys.keys.root, **options}
    item = Item(one.kind, one.media_type, path=path, options=given)
    return load_detector("c2pa").examine(item).fields["c2pa"]


@pytest.mark.parametrize("kind", DRAWS)
def test_what_is_kept_is_stamped_and_stays_signed_and_marked(
    kind: Kind, keys: Marker, tsa: Authority, tmp_path: Path
) -> None:
    before = made(kind, keys)
    asked = tsa.answers
    after = time_stamped(keys, before)
    assert tsa.answers - asked == 1
    stamp = after.marks["c2pa"]["time_stamp"]
    assert (stamp["state"], stamp["authority"]) == ("trusted", "TSA of the tests")
    found = read(after, keys, tmp_path, time_stamp_anchors=keys.time_stamp_roots)
    assert (found["state"], found["own"], found["manifests"], found["codes"]) == ("trusted", True, 1, [])
    assert found["time_stamp"] == stamp and found["signed_at"] == stamp["at"] != ""
    # Only who is trusted for times is believed; whose it is makes no difference to who signed.
    for others in ({}, {"time_stamp_anchors": keys.keys.root}):
        found = read(after, keys, tmp_path, **others)
        assert (found["own"], found["time_stamp"]) == (True, {**stamp, "state": "unknown-authority"})
    assert read(before, keys, tmp_path)["time_stamp"] == {}
    assert {name: after.marks[name] for name in after.marks if name != "c2pa"} == {
        name: before.marks[name] for name in before.marks if name != "c2pa"
    }
    # The content is what it was.
    if kind == "image":
        assert (_marked.read_png(after.content) == _marked.read_png(before.content)).all()
    elif kind == "audio":
        assert (_marked.read_wav(after.content).samples == _marked.read_wav(before.content).samples).all()
    else:
        shown = [_marked.read_mp4(one.content)[0] for one in (before, after)]
        assert all((one == other).all() for one, other in zip(*shown, strict=True))


def test_whoever_is_trusted_for_times_is_not_for_signatures(keys: Marker, tmp_path: Path) -> None:
    found = read(
        time_stamped(keys, made("image", keys)),
        keys,
        tmp_path,
        own_anchors=keys.time_stamp_roots,
        time_stamp_anchors=keys.keys.root,
    )
    assert (found["state"], found["own"]) == ("valid", False)
    assert found["time_stamp"]["state"] == "unknown-authority"


def test_a_stamp_of_another_signature_does_not_fit(keys: Marker, tsa: Authority, tmp_path: Path) -> None:
    tokens: list[bytes] = []

    def kept(message: bytes) -> bytes:
        tokens.append(keys.time_stamp(message))
        return tokens[0]

    moved = replace(keys, time_stamp=kept)
    one = time_stamped(moved, made("image", keys))
    assert one.marks["c2pa"]["time_stamp"]["state"] == "trusted"
    other = time_stamped(moved, made("audio", keys))
    assert other.marks["c2pa"]["time_stamp"] == {"state": "invalid", "why": "timeStamp.mismatch"}
    assert read(other, keys, tmp_path)["time_stamp"]["state"] == "invalid"


def test_a_stamp_whose_signature_was_changed_does_not_hold(keys: Marker, tmp_path: Path) -> None:
    one = time_stamped(keys, made("audio", keys))
    at = one.content.index(b"sigTst2")
    states = set()
    for offset in range(1200, 1500, 60):
        changed = bytearray(one.content)
        changed[at + offset] ^= 1
        found = read(one, keys, tmp_path, bytes(changed), time_stamp_anchors=keys.time_stamp_roots)
        states.add(found["time_stamp"].get("state", ""))
        assert found["time_stamp"].get("state") != "trusted"
    assert "invalid" in states


@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("fault", ["refuses", "garbles", "another"])
def test_without_a_stamp_it_is_signed_all_the_same_and_says_so(
    kind: Kind, fault: str, keys: Marker, tsa: Authority, running: tuple[Authority, str], tmp_path: Path
) -> None:
    if fault == "another":
        stranger = Authority(tmp_path / "stranger")
        keys = replace(keys, time_stamp=asks(tsa, running[1], stranger.root))
    else:
        setattr(tsa, fault, True)
    before = made(kind, keys)
    after = time_stamped(keys, before)
    stamp = after.marks["c2pa"]["time_stamp"]
    assert stamp["state"] == "unavailable" and "The time stamp authority" in stamp["why"]
    found = read(after, keys, tmp_path)
    assert (found["state"], found["own"], found["time_stamp"]) == ("trusted", True, {})
    # In the manifest itself, for whoever reads it.
    assert b"time_stamp" in after.content and b"unavailable" in after.content
    assert b"unavailable" not in before.content
    assert after.said["details"] == {**before.said["details"], "time_stamp": "unavailable"}


def test_a_stamp_that_is_too_large_is_left_out(keys: Marker) -> None:
    large = replace(keys, time_stamp=lambda message: bytes(12_000))
    stamp = time_stamped(large, made("image", keys)).marks["c2pa"]["time_stamp"]
    assert stamp["state"] == "unavailable" and "more than there is room for" in stamp["why"]


def test_candidates_that_are_dropped_ask_for_none(plain: Marker, keys: Marker, tsa: Authority) -> None:
    assert time_stamped(plain, one := made("image", plain)) is one
    asked = tsa.answers
    MarkedGenerator(Drawing("image", lambda params: RawOutput(pixels=flat(120))), keys).make([WISH] * 3)
    assert tsa.answers == asked


def test_the_studio_stamps_what_it_releases(
    keys: Marker, tsa: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml.generators import studio as frame
    from ml.generators.studio import Request

    drawing = Drawing("image", lambda params: RawOutput(pixels=blob() if params.seed % 2 else smooth()))
    monkeypatch.setattr(frame, "load_generator", lambda spec, mark: MarkedGenerator(drawing, mark))
    studio = Studio({"image": "drawing"}, keys)
    monkeypatch.setattr(studio, "scores", lambda prompt, pictures: [0.1, 0.2])
    asked = tsa.answers
    [piece] = studio.create(Request("an apple", width=256, height=256)).pieces
    assert (piece.made.marks["c2pa"]["time_stamp"]["state"], tsa.answers - asked) == ("trusted", 1)
