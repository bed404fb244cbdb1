"""Items without vectors beside a review: known as similar by fingerprints in their evidence, and gone with it."""

from __future__ import annotations

import base64
import itertools
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ml.auditing import Subject
from ml.detectors.base import Words
from ml.hashing import fingerprints, sounds, words
from standalone.config import ROOT
from tenants.datasets.services import create_dataset
from tenants.moderation import reviews
from tenants.moderation.models import Audit
from tenants.moderation.reviews import context, queue
from tenants.pipeline.audits.auditing import text_sketch
from tenants.pipeline.care import erasure
from tenants.scope import Narrowing, narrowed, tenant_scope
from tests.conftest import Party
from tests.tenants.reviewing import ANN, World, make_world, seen

SPAM = "Buy cheap watches now, best prices in town, free delivery. Write to me today and get a second one for nothing!"
SAME = SPAM.replace("watches", "phones")
OTHER = "The kettle stands on the stove, and the water boils slowly for the tea of this afternoon."
PRODUCTS = ROOT / "platform" / "standalone" / "demo_data" / "grocery"


@pytest.fixture
def world(party: Party) -> World:
    return make_world(party)


def of_text(text: str) -> dict[str, Any]:
    return {"words": text_sketch(Subject("text", "text/plain", words=[Words(text, "text")]))}


def audited(
    world: World, prints: dict[str, Any], fired: tuple[str, ...] = ("known",), **fields: Any
) -> Audit:
    """By default one that the policy blocks."""
    return world.audit(fired, evidence=seen(fingerprints=prints), **fields)


def similar(world: World, audit: Audit) -> list[tuple[Any, str, str]]:
    with tenant_scope(world.id):
        return [(one.audit.id, one.decision, one.by) for one in context.similar_prints(audit)]


def as_kind(audit: Audit, modality: str) -> Audit:
    """Evidence of another kind than text; the row may not be changed by the application."""
    audit.modality = modality
    return audit


def test_texts_that_share_their_words_are_found_with_their_decisions(world: World) -> None:
    blocked = audited(world, of_text(SAME))
    audited(world, of_text(OTHER))
    by_person = audited(world, of_text(SPAM.upper()), ("rude",))
    allowed = audited(world, of_text(SPAM), ("rude",))
    for audit, decision in ((by_person, "block"), (allowed, "allow")):
        flag = world.flags(audit)["rude"]
        with tenant_scope(world.id):
            queue.claim(review_id=flag.id, actor=ANN)
            reviews.decide_review(review_id=flag.id, decision=decision, reason="Seen.", actor=ANN)
    item = audited(world, of_text(SPAM), ("rude",))
    # What people let go has vectors, and is compared by these.
    assert similar(world, item) == [(by_person.id, "block", "words"), (blocked.id, "block", "words")]
    with tenant_scope(world.id):
        first, second = context.similar_prints(item)
    assert (first.share, first.outcome.reason if first.outcome else "") == (1.0, "Seen.")
    assert 0.7 < second.share < 0.95
    assert second.outcome is None


def test_what_is_erased_is_not_compared_any_more(world: World) -> None:
    blocked, item = audited(world, of_text(SAME)), audited(world, of_text(SPAM), ("rude",))
    assert len(similar(world, item)) == 1
    with tenant_scope(world.id):
        erasure.erase_asset(asset_id=blocked.item)
    assert similar(world, item) == []


def test_members_see_similar_items_of_their_datasets_and_tenants_of_their_own(
    world: World, stranger: Party
) -> None:
    audited(make_world(stranger), of_text(SAME))
    elsewhere = make_world(world.party)
    hidden, shown = audited(elsewhere, of_text(SAME)), audited(world, of_text(SAME))
    item = audited(world, of_text(SPAM), ("rude",))
    assert [one for one, _, _ in similar(world, item)] == [shown.id, hidden.id]
    with narrowed(Narrowing((world.dataset.id,), None)):
        assert [one for one, _, _ in similar(world, item)] == [shown.id]
    with tenant_scope(world.id):
        empty = create_dataset(name="nothing")
    with narrowed(Narrowing((empty.id,), None)):
        assert similar(world, item) == []


def test_evidence_of_before_and_malformed_prints_are_similar_to_nothing(world: World) -> None:
    for stored in ("zzz", "", None, 7, base64.b64encode(b"short").decode()):
        audited(world, {"words": stored})
    world.audit(("known",))
    item = audited(world, of_text(SPAM), ("rude",))
    bare = world.audit(("rude",))
    assert similar(world, item) == similar(world, bare) == []


def photo(name: str) -> np.ndarray:
    picture = Image.open(PRODUCTS / name).convert("RGB")
    picture.thumbnail((512, 512))
    return np.asarray(picture)


def test_pictures_sounds_and_films_are_found_by_what_they_look_and_sound_like(world: World) -> None:
    kettle, milk = photo("zucchini_iconic.jpg"), photo("oatly-oat-milk_iconic.jpg")
    copy = np.asarray(Image.fromarray(kettle).resize((300, 300)))
    prints = {
        "image": (fingerprints.of_picture(copy), fingerprints.of_picture(milk)),
        "video": tuple({"frames": [fingerprints.of_frame(one, 0.0)]} for one in (copy, milk)),
        "audio": tuple(fingerprints.of_sound(sound(seed)) for seed in (1, 2)),
    }
    mine = {
        "image": fingerprints.of_picture(kettle),
        "video": {"frames": [fingerprints.of_frame(kettle, 3.0)]},
        "audio": fingerprints.of_sound(sound(1) * 0.5),
    }
    by = {"image": "pdq", "video": "frames", "audio": "sound"}
    for modality, (near, far) in prints.items():
        alike, unlike = audited(world, near), audited(world, far)
        item = audited(world, mine[modality], ("rude",))
        with tenant_scope(world.id):
            found = context._similar(as_kind(item, modality), {alike.id: alike, unlike.id: unlike})
        assert {one: name for one, (name, _) in found.items()} == {alike.id: by[modality]}


def sound(seed: int) -> np.ndarray:
    """Four seconds of tones that nobody else hears."""
    drawn = np.random.default_rng(seed)
    at = np.arange(4 * sounds.RATE) / sounds.RATE
    tones = [np.sin(2 * np.pi * hertz * at[: sounds.RATE // 4]) for hertz in drawn.uniform(200, 3000, 16)]
    return np.concatenate(tones).astype(np.float32)


def test_looks_tell_the_same_product_from_others_often_enough() -> None:
    """45 products of the demo, each in two photographs; the limit is set so that few others pass."""
    names = [path.name for path in sorted(PRODUCTS.glob("train_*_001.jpg"))][:45]
    first, second = (
        [fingerprints.Fingerprints.read(fingerprints.of_picture(photo(name))) for name in chosen]
        for chosen in (names, [name.replace("_001", "_002") for name in names])
    )

    def alike(one: Any, other: Any) -> bool:
        return context._in_common(one.code, other.code) >= context.LOOKS_COMMON

    same = sum(alike(one, other) for one, other in zip(first, second, strict=True))
    others = sum(alike(one, other) for one, other in itertools.combinations(first, 2))
    # Here 19 of 45 pairs of one product, and 9 of 990 of two.
    assert (same >= 15, others <= 15) == (True, True), (same, others)


def test_sketches_estimate_the_share_of_pieces_in_common() -> None:
    chinese = "便宜手表，全城最低价，免费送货。今天联系我，买一送一！"
    texts = [SPAM, SPAM.upper().replace(" ", "  "), SAME, OTHER, chinese, chinese.replace("今天", "马上"), ""]
    rows = [words.sketch(text) for text in texts]
    assert [len(row) for row in rows] == [256] * 6 + [0]
    kept = np.frombuffer(b"".join(rows[:6]), np.uint8).reshape(6, 256)
    shares = words.common(rows[0], kept)
    assert shares[0] == shares[1] == 1.0
    assert abs(shares[2] - jaccard(SPAM, SAME)) < 0.1
    assert max(shares[3:]) < 0.02
    assert words.common(rows[4], kept)[5] > 0.5
    # Long texts of one language have pieces in common; what is unrelated stays far below the limit.
    pages = [(ROOT / "docs" / name).read_text() for name in ("console.md", "encryption.md")]
    one, other = map(words.sketch, pages)
    assert words.common(one, np.frombuffer(other, np.uint8)[None])[0] < words.LIMIT / 2


def jaccard(one: str, other: str) -> float:
    mine, theirs = ({text.casefold()[at : at + 5] for at in range(len(text) - 4)} for text in (one, other))
    return len(mine & theirs) / len(mine | theirs)
