"""Hash lists: what stands on them, what matches, and that a stranger's list never does."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import numpy as np
import pytest

from ml.hashing import fingerprints as prints
from ml.hashing import sounds
from tenants.errors import Conflict, Invalid, NotFound
from tenants.moderation.known_content import RawHash, selectors
from tenants.moderation.known_content import services as known
from tenants.moderation.known_content.matching import list_cache
from tenants.moderation.models import HashEntry, HashList, SharedHashEntry, SharedHashList
from tenants.scope import tenant_scope
from tests.conftest import Party

RANDOM = np.random.default_rng(1)


def digits() -> str:
    return RANDOM.bytes(32).hex()


def changed(hashed: str, bits: int) -> str:
    """The hash with its first bits turned."""
    number = int(hashed, 16) ^ ((1 << bits) - 1)
    return f"{number:064x}"


def of_pdq(hashed: str, **more: Any) -> dict[str, Any]:
    return {"pdq": hashed, "pdq_quality": 90, "pdq_turned": [digits() for _ in range(7)], **more}


def bad_list(name: str = "bad", stance: str = "bad") -> uuid.UUID:
    return known.create_list(name=name, stance=stance).id


def test_the_same_bytes_and_a_near_picture_match(party: Party) -> None:
    digest, hashed = digits(), digits()
    with tenant_scope(party.id):
        list_id = bad_list()
        item = known.add_item(list_id=list_id, fingerprints=of_pdq(hashed, sha256=digest))
        same = known.match(fingerprints={}, sha256=digest)
        near = known.match(fingerprints=of_pdq(changed(hashed, 31)))
        far = known.match(fingerprints=of_pdq(changed(hashed, 32)))
    about = {"list": str(list_id), "name": "bad", "stance": "bad", "shared": False, "entry": str(item)}
    assert same == [{**about, "algorithm": "sha256", "distance": 0.0, "limit": 0.0}]
    assert near == [{**about, "algorithm": "pdq", "distance": 31.0, "limit": 31.0}]
    assert far == []


def test_a_mirrored_picture_matches_by_its_turned_hashes(party: Party) -> None:
    hashed = digits()
    with tenant_scope(party.id):
        known.add_item(list_id=bad_list(), fingerprints=of_pdq(hashed))
        turned = {**of_pdq(digits()), "pdq_turned": [digits(), hashed]}
        assert [found["distance"] for found in known.match(fingerprints=turned)] == [0.0]


def test_a_flat_picture_is_never_matched_by_its_hash(party: Party) -> None:
    hashed = digits()
    with tenant_scope(party.id):
        known.add_item(list_id=bad_list(), fingerprints=of_pdq(hashed))
        assert known.match(fingerprints={**of_pdq(hashed), "pdq_quality": 49}) == []


def test_what_cannot_be_known_again_is_not_put_on_a_list(party: Party) -> None:
    with tenant_scope(party.id):
        list_id = bad_list()
        with pytest.raises(Invalid):
            known.add_item(list_id=list_id, fingerprints={"pdq": digits(), "pdq_quality": 3})
        assert not HashEntry.objects.filter(hash_list_id=list_id).exists()


def test_the_nearest_comes_first_and_lists_are_named(party: Party) -> None:
    hashed, digest = digits(), digits()
    with tenant_scope(party.id):
        known.add_item(list_id=bad_list("far"), fingerprints=of_pdq(changed(hashed, 20)))
        known.add_item(list_id=bad_list("good", "good"), fingerprints=of_pdq(changed(hashed, 4)))
        known.add_hashes(list_id=bad_list("bytes"), hashes=[RawHash("sha256", digest)])
        found = known.match(fingerprints=of_pdq(hashed), sha256=digest)
    assert [(one["name"], one["stance"], one["distance"]) for one in found] == [
        ("bytes", "bad", 0.0),
        ("good", "good", 4.0),
        ("far", "bad", 20.0),
    ]


def test_a_strangers_list_never_matches(party: Party, stranger: Party) -> None:
    hashed, digest = digits(), digits()
    with tenant_scope(stranger.id):
        known.add_item(list_id=bad_list(), fingerprints=of_pdq(hashed, sha256=digest))
        assert len(known.match(fingerprints=of_pdq(hashed), sha256=digest)) == 2
    with tenant_scope(party.id):
        assert known.match(fingerprints=of_pdq(hashed), sha256=digest) == []


def test_a_strangers_list_takes_nothing_and_loses_nothing(party: Party, stranger: Party) -> None:
    with tenant_scope(stranger.id):
        list_id = bad_list()
        item = known.add_item(list_id=list_id, fingerprints=of_pdq(digits()))
    with tenant_scope(party.id):
        with pytest.raises(NotFound):
            known.add_item(list_id=list_id, fingerprints=of_pdq(digits()))
        with pytest.raises(NotFound):
            known.delete_list(list_id=list_id)
        known.remove_item(item_id=item)
    with tenant_scope(stranger.id):
        assert HashEntry.objects.filter(item=item).count() == 1


def test_what_was_removed_does_not_match_any_more(party: Party) -> None:
    one, other = digits(), digits()
    with tenant_scope(party.id):
        list_id = bad_list()
        item = known.add_item(list_id=list_id, fingerprints=of_pdq(one))
        known.add_item(list_id=list_id, fingerprints=of_pdq(other))
        assert known.match(fingerprints=of_pdq(one))
    with tenant_scope(party.id):
        known.remove_item(item_id=item)
    with tenant_scope(party.id):
        assert known.match(fingerprints=of_pdq(one)) == []
        assert len(known.match(fingerprints=of_pdq(other))) == 1


def test_a_deleted_list_is_gone_with_its_hashes(party: Party) -> None:
    hashed = digits()
    with tenant_scope(party.id):
        list_id = bad_list()
        known.add_item(list_id=list_id, fingerprints=of_pdq(hashed))
        known.delete_list(list_id=list_id)
    with tenant_scope(party.id):
        assert known.match(fingerprints=of_pdq(hashed)) == []
        assert not HashList.objects.exists()
        assert not HashEntry.objects.exists()


def test_raw_hashes_come_once_and_the_wrong_ones_not_at_all(party: Party) -> None:
    hashed = digits()
    with tenant_scope(party.id):
        list_id = bad_list()
        given = [
            RawHash("pdq", hashed.upper(), "from a partner"),
            RawHash("pdq", hashed),
            RawHash("sha256", hashed),
        ]
        items, known_before = known.add_hashes(list_id=list_id, hashes=given)
        assert (len(items), known_before) == (2, 1)
        assert known.add_hashes(list_id=list_id, hashes=given) == ([], 3)
        for wrong in (RawHash("pdq", "12"), RawHash("sound", hashed), RawHash("pdq", "z" * 64)):
            with pytest.raises(Invalid):
                known.add_hashes(list_id=list_id, hashes=[RawHash("pdq", digits()), wrong])
        assert HashEntry.objects.count() == 2


def test_names_are_unique_and_lists_are_counted(party: Party, monkeypatch: pytest.MonkeyPatch) -> None:
    with tenant_scope(party.id):
        list_id = bad_list("one")
        with pytest.raises(Conflict):
            bad_list("one")
        monkeypatch.setattr(known, "MAX_LISTS", 1)
        with pytest.raises(Conflict):
            bad_list("two")
        monkeypatch.setattr(known, "MAX_HASHES", 1)
        known.add_item(list_id=list_id, fingerprints=of_pdq(digits()))
        with pytest.raises(Conflict):
            known.add_item(list_id=list_id, fingerprints=of_pdq(digits()))
        assert HashEntry.objects.count() == 1


def frames(*hashes: str) -> dict[str, Any]:
    shape = [
        {"at_s": float(at), "pdq": one, "mirrored": digits(), "quality": 80} for at, one in enumerate(hashes)
    ]
    return {"frames": shape}


def test_a_film_matches_when_three_frames_agree(party: Party) -> None:
    shots = [digits() for _ in range(8)]
    with tenant_scope(party.id):
        item = known.add_item(list_id=bad_list(), fingerprints=frames(*shots))
        three = known.match(fingerprints=frames(digits(), *shots[2:5]))
        two = known.match(fingerprints=frames(digits(), *shots[2:4], digits()))
    assert [(one["entry"], one["algorithm"], one["at_s"]) for one in three] == [(str(item), "pdq", 1.0)]
    assert two == []


def test_one_frame_is_enough_for_a_listed_picture(party: Party) -> None:
    hashed = digits()
    with tenant_scope(party.id):
        known.add_item(list_id=bad_list(), fingerprints=of_pdq(hashed))
        (found,) = known.match(fingerprints=frames(digits(), digits(), hashed, digits()))
        assert found["at_s"] == 2.0


def test_a_sound_matches_when_it_was_cut_and_is_louder(party: Party) -> None:
    sound = noise(12)
    with tenant_scope(party.id):
        item = known.add_item(list_id=bad_list(), fingerprints=prints.of_sound(sound))
        (found,) = known.match(fingerprints=prints.of_sound(sound[3 * 16_000 + 700 :] * 0.4))
        other = known.match(fingerprints=prints.of_sound(noise(12)))
    assert (found["entry"], found["algorithm"]) == (str(item), "sound")
    assert found["distance"] <= sounds.LIMIT
    assert other == []


def noise(seconds: int) -> np.ndarray:
    """Noise whose colour changes five times a second: it has bands that rise and fall."""
    pieces = [
        np.convolve(RANDOM.normal(size=3200), RANDOM.normal(size=64), "same") for _ in range(seconds * 5)
    ]
    sound = np.concatenate(pieces)
    return (sound / np.abs(sound).max() * 0.8).astype(np.float32)


def test_a_shared_list_matches_for_everybody(party: Party) -> None:
    hashed = digits()
    shared = SharedHashList.objects.create(name=f"shared {uuid.uuid4().hex}", stance="bad")
    item = uuid.uuid4()
    SharedHashEntry.objects.create(
        hash_list=shared, item=item, algorithm="pdq", content=bytes.fromhex(hashed)
    )
    try:
        with tenant_scope(party.id):
            (found,) = known.match(fingerprints=of_pdq(hashed))
        assert (found["list"], found["shared"], found["entry"]) == (str(shared.id), True, str(item))
    finally:
        shared.delete()


def test_what_was_stored_by_another_version_is_left_out(party: Party) -> None:
    odd = {
        "pdq": 7,
        "pdq_quality": "much",
        "pdq_turned": "none",
        "vector": base64.b64encode(b"short").decode(),
        "frames": [None, {"pdq": "12"}, 3],
        "sound": "%%%",
    }
    with tenant_scope(party.id):
        bad_list()
        assert known.match(fingerprints=odd) == []


def test_memory_is_bounded_and_still_right(party: Party, settings: Any) -> None:
    settings.HASH_LISTS_BYTES = 1
    hashes = [digits() for _ in range(3)]
    with tenant_scope(party.id):
        for number, hashed in enumerate(hashes):
            known.add_item(list_id=bad_list(str(number)), fingerprints=of_pdq(hashed))
        for number, hashed in enumerate(hashes):
            assert [one["name"] for one in known.match(fingerprints=of_pdq(hashed))] == [str(number)]
    assert len(list_cache._kept) == 1


def test_items_are_counted_anew_only_where_a_list_changed(
    party: Party, django_assert_num_queries: Any
) -> None:
    def counted() -> list[int]:
        rows = list(known.list_lists().order_by("id"))
        return [selectors.items_of(rows)[row.id] for row in rows]

    with tenant_scope(party.id):
        first, second = bad_list("first"), bad_list("second")
        item = known.add_item(list_id=first, fingerprints=of_pdq(digits(), sha256=digits()))
        assert counted() == [1, 0]
        with django_assert_num_queries(1):  # the lists themselves
            assert counted() == [1, 0]
        known.add_hashes(list_id=second, hashes=[RawHash("pdq", digits()), RawHash("sha256", digits())])
        with django_assert_num_queries(2):
            assert counted() == [1, 2]
        known.complete_item(item_id=item, fingerprints=of_pdq(digits(), sound=""))
        known.remove_item(item_id=item)
        assert counted() == [0, 2]
    known.import_shared_hashes(name=f"shared {party.id}", stance="bad", hashes=[RawHash("pdq", digits())])
    row = SharedHashList.objects.get(name=f"shared {party.id}")
    assert selectors.list_shapes([row])[row.id].entries == 1
    known.delete_shared_list(name=row.name)
