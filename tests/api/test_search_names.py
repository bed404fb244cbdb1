"""What a query names comes first: a file, an id, a quoted phrase, captions with all of its words; and nothing of
it costs what is only alike its place."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tenants.datasets.models import Asset
from tenants.pipeline.assets.services import delete_asset
from tenants.retrieval.index import lifecycle
from tenants.retrieval.index.vectors import NewVector, add_vectors, remove_vectors
from tenants.retrieval.models import LexicalEntry
from tenants.retrieval.query import encoding, lexical, names
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.api.test_search import ids
from tests.conftest import Party
from workers.base import run_job

MODEL = encoding.model_id()


class Archive:
    """Pictures with names and captions, each further from `text` than those that were added before it."""

    def __init__(self, api: Api, party: Party, add_text: Callable) -> None:
        self.api, self.party, self._add = api, party, add_text
        self.count, self.text = 0, "wanted.jpg"

    def _vector(self) -> np.ndarray:
        query = encoding.query_cache.find(self.party.id, self.text, MODEL).vector
        beside = np.random.default_rng(5).standard_normal(len(query)).astype(np.float32)
        beside -= (beside @ query) * query
        angle = np.radians(5 * self.count)
        return np.cos(angle) * query + np.sin(angle) * beside / np.linalg.norm(beside)

    def put(
        self, filename: str = "", caption: str = "", *, vectors: bool = True, made: bool = False, **given: Any
    ) -> str:
        self.count += 1
        asset_id: str = self._add(uuid.uuid4().hex, **given)["asset"]["id"]
        with tenant_scope(self.party.id):
            rows = Asset.objects.filter(pk=asset_id)
            rows.update(status="ready", modality="image", filename=filename, caption=caption)
            rows.update(generation_id=uuid.uuid4() if made else None)
            asset = rows.get()
            remove_vectors(asset_ids=[asset.id])
            stored = [NewVector("image", self._vector())] if vectors else []
            add_vectors(model=MODEL, vectors=[(asset, stored)])
            lexical.index_texts([lexical.entry_of(asset, {}, asset.captions)])
        return asset_id

    def search(self, text: str, **fields: Any) -> dict[str, Any]:
        answer = self.api.post("/search", {"text": text, **fields})
        assert answer.status_code == 200, answer.content
        return answer.json()

    def found(self, text: str, **fields: Any) -> list[str]:
        return ids(self.search(text, **fields))

    def by(self, text: str, **fields: Any) -> list[str | None]:
        return [one["matched"].get("by") for one in self.search(text, **fields)["results"]]


@pytest.fixture
def archive(api: Api, party: Party, add_text: Callable) -> Archive:
    return Archive(api, party, add_text)


WANTED = "IMG_2041 Quarterly-Report final.PDF.jpg"


@pytest.mark.parametrize(
    "text",
    [
        WANTED,
        WANTED.lower(),
        WANTED.removesuffix(".jpg"),
        f'"{WANTED}"',
        f"  {WANTED} ",
        "IMG_2041",
        "2041",
        "quarterly report final",
        "report quart",
        "ID-77/b",
        "id-77/B",
        "“old barn”",
        'a picture of "the old barn"',
    ],
)
@pytest.mark.parametrize("built", [False, True], ids=["array", "generation"])
def test_what_is_named_comes_first(archive: Archive, text: str, built: bool) -> None:
    archive.text = text
    others = [archive.put(f"picture {n}.jpg", f"old news of a barn {n}") for n in range(5)]
    named = archive.put(WANTED, "an old barn", external_id="ID-77/b")
    if built:
        with tenant_scope(archive.party.id):
            job = lifecycle.build(model=MODEL)
        assert job is not None
        run_job(str(job.id), str(archive.party.id))
    assert archive.found(text)[0] == named
    assert archive.by(text)[0] in ("name", "phrase")
    assert archive.found(text, hybrid=True)[0] == named
    found = archive.search(text, hybrid=False)
    assert ids(found) == [*others, named]
    assert all("by" not in one["matched"] for one in found["results"])


def test_scores_stay_cosines_and_the_rest_keeps_its_order(archive: Archive) -> None:
    archive.text = "quarterly report"
    others = [archive.put(f"{n}.jpg") for n in range(4)]
    named = archive.put("quarterly report.jpg")
    plain = {
        one["asset"]["id"]: one["score"]
        for one in archive.search("quarterly report", hybrid=False)["results"]
    }
    answer = archive.search("quarterly report")
    assert ids(answer) == [named, *others]
    for one in answer["results"]:
        assert one["score"] == pytest.approx(plain[one["asset"]["id"]], abs=1e-5)


def test_captions_with_all_of_the_words_are_fused_in(archive: Archive) -> None:
    archive.text = "red kite"
    others = [archive.put(caption=f"nothing {n}") for n in range(8)]
    captioned = archive.put(caption="a red kite over the sea")
    assert archive.found("red kite", hybrid=False) == [*others, captioned]
    assert archive.found("red kite").index(captioned) < 2
    assert archive.by("red kite")[archive.found("red kite").index(captioned)] == "words"
    # One word that is missing, and the caption says nothing.
    assert archive.by("red kite harbour") == [None] * 9


def test_what_many_hold_names_none_of_them(archive: Archive, monkeypatch) -> None:
    archive.text = "horse"
    monkeypatch.setattr(names, "MOST_PARTLY", 2)
    monkeypatch.setattr(names, "MOST", 2)
    others = [archive.put(f"horse {n}.jpg", "a horse") for n in range(3)]
    assert archive.found("horse") == others
    assert archive.by("horse") == [None] * 3
    # The name of one of them still does.
    assert archive.found("horse 2.jpg")[0] == others[2]


def test_only_three_are_shown_before_what_is_alike(archive: Archive) -> None:
    archive.text = "barn"
    near = archive.put("zebra.jpg")
    named = [archive.put(f"barn {n}.jpg") for n in range(5)]
    assert archive.found("barn")[:3] == named[:3]
    assert archive.by("barn").count("name") == 3
    assert near in archive.found("barn")


def test_what_has_no_vectors_is_found_by_its_name_alone(archive: Archive) -> None:
    archive.text = "evening tune.wav"
    near = archive.put("a.jpg")
    tune = archive.put("evening tune.wav", vectors=False)
    assert archive.found("evening tune.wav") == [tune, near]
    assert archive.found("evening tune.wav", hybrid=False) == [near]


def test_names_are_looked_up_under_the_same_restrictions(archive: Archive, other: Api) -> None:
    archive.put("near.jpg", metadata={"colour": "red"})
    named = archive.put("wanted.jpg", metadata={"colour": "blue"})
    assert archive.found("wanted.jpg", filter={"colour": "blue"}) == [named]
    assert named not in archive.found("wanted.jpg", filter={"colour": "red"})
    assert archive.found("wanted.jpg", modalities=["text"]) == []
    empty = archive.api.post("/datasets", {"name": uuid.uuid4().hex}).json()["id"]
    assert archive.found("wanted.jpg", datasets=[empty]) == []
    assert ids(other.post("/search", {"text": "wanted.jpg"}).json()) == []
    made = archive.put("made.wav", vectors=False, made=True)
    assert made not in archive.found("made.wav")
    assert archive.found("made.wav", generated="only") == [made]


def test_pages_go_on_without_what_was_shown(archive: Archive) -> None:
    others = [archive.put(f"{n}.jpg") for n in range(6)]
    named = archive.put("wanted.jpg")
    answer, found = archive.search("wanted.jpg", top_k=2), []
    while True:
        found += ids(answer)
        if not answer["next"]:
            break
        answer = archive.api.post("/search", {"cursor": answer["next"], "top_k": 2}).json()
    assert found == [named, *others]


def test_a_picture_or_an_example_beside_the_words_names_nothing(archive: Archive) -> None:
    near, named = archive.put("near.jpg"), archive.put("wanted.jpg")
    assert archive.by("wanted.jpg", like={"assets": [near]}) == [None]
    assert archive.found("wanted.jpg", like={"assets": [near]}) == [named]


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE asset; --",
        "\\",
        '"',
        '""',
        "“”",
        "a:*",
        "& | ! ( )",
        "<->",
        "the",
        "的",
        "x" * 9_999,
        "~=",
    ],
)
def test_hostile_words_name_nothing_and_break_nothing(archive: Archive, text: str) -> None:
    archive.text = text.strip() or "a"
    near = archive.put("near.jpg")
    assert archive.found(text) == [near]


def test_what_is_deleted_is_named_no_more(archive: Archive) -> None:
    named = archive.put("wanted.jpg")
    assert archive.found("wanted.jpg") == [named]
    with tenant_scope(archive.party.id):
        delete_asset(asset_id=uuid.UUID(named))
    assert archive.found("wanted.jpg") == []


def test_entries_of_an_earlier_release_get_their_names(archive: Archive) -> None:
    archive.text = "sku 5"
    near, older = archive.put("near.jpg"), archive.put("wanted.jpg", external_id="SKU 5")
    with tenant_scope(archive.party.id):
        rows = LexicalEntry.objects.filter(asset_id=older)
        kept = " ".join(part for part in rows.get().words.split() if "~" not in part and "=" not in part)
        rows.update(words=kept, names_indexed=False)
    assert archive.found("sku 5") == [near, older]
    with tenant_scope(archive.party.id):
        assert [lexical.index_older_names(), lexical.index_older_names()] == [1, 0]
    assert archive.found("sku 5") == [older, near]
    assert archive.found("wanted")[0] == older


def test_an_uploaded_file_is_found_by_its_name(api: Api, party: Party, dataset: str) -> None:
    file = io.BytesIO(b"minutes of the meeting")
    file.name = "Protocol 2026-03.txt"
    answer = api.form(f"/datasets/{dataset}/assets", {"file": file})
    assert answer.status_code in (201, 202), answer.content
    run_job(answer.json()["job"]["id"], str(party.id))
    found = api.post("/search", {"text": "protocol 2026-03.txt"}).json()["results"][0]
    assert (found["asset"]["filename"], found["matched"]["by"]) == ("Protocol 2026-03.txt", "name")
