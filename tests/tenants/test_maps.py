"""Maps: which vectors they show, what they know of each, their job, and what they leave behind."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test.utils import CaptureQueriesContext

from ml.projection.embed import KINDS, VECTORS
from tenants.datasets import storage
from tenants.datasets.models import Asset, Facet
from tenants.datasets.services import create_dataset
from tenants.errors import Conflict, Invalid, NotAllowed, NotFound, NotReady
from tenants.jobs import services as jobs
from tenants.jobs.models import Job
from tenants.jobs.selectors import log_of
from tenants.pipeline.assets.services import add_asset, delete_dataset
from tenants.pipeline.care.erasure import erase_asset
from tenants.retrieval import map_points, maps, model_routing
from tenants.retrieval.index.vectors import NewVector, add_vectors
from tenants.retrieval.map_points import Wanted, read_vectors
from tenants.retrieval.models import EmbeddingMap, Vector
from tenants.scope import tenant_scope
from tests.api.conftest import Api
from tests.tenants.learning.world import unit
from workers.base import run_job


@pytest.fixture(autouse=True)
def _nothing_remembered() -> None:
    map_points.forget_points()


def place(
    party: Any, *vectors: tuple[str, np.ndarray], dataset: Any = None, model: str = "", **fields: Any
) -> Asset:
    """A ready asset with these vectors, named by what they are of. In a scope."""
    dataset = dataset or create_dataset(name=uuid.uuid4().hex)
    asset = add_asset(dataset_id=dataset.id, text=uuid.uuid4().hex).asset
    Asset.objects.filter(pk=asset.pk).update(status="ready", **fields)
    asset.refresh_from_db()
    given = [NewVector(kind, values) for kind, values in vectors]
    add_vectors(model=model or model_routing.live(), vectors=[(asset, given)])
    return asset


def circle(party: Any, count: int, dataset: Any = None) -> list[Asset]:
    """So many assets, evenly on a circle of two dimensions. In a scope."""
    dataset = dataset or create_dataset(name=uuid.uuid4().hex)
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [place(party, ("text", unit(np.cos(t), np.sin(t))), dataset=dataset) for t in turns]


def wanted(**more: Any) -> Wanted:
    return Wanted(model=model_routing.live(), **more)


# --- What is read ----------------------------------------------------------------------------------------


def test_each_asset_is_the_mean_of_what_it_is_itself(party: Any) -> None:
    with tenant_scope(party.id):
        film = place(
            party,
            ("video", unit(1)),
            ("video", unit(0, 1)),
            ("text", unit(0, 0, 1)),
            modality="video",
        )
        spoken = place(party, ("text", unit(1)), ("text", unit(0, 0, 1)), modality="audio")
        found = read_vectors(wanted())
    assert found.total == 2
    assert map_points.ids_of(found.ids) == sorted([str(film.id), str(spoken.id)])
    by_id = dict(zip(map_points.ids_of(found.ids), found.vectors, strict=True))
    assert np.allclose(by_id[str(film.id)], unit(1, 1), atol=1e-6)
    assert np.allclose(by_id[str(spoken.id)], unit(1, 0, 1), atol=1e-6)


def test_what_the_process_reads_is_what_is_in_memory_and_lies_on_the_disk_once(
    party: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_points, "BLOCK", 2)
    film = (("video", unit(1)), ("video", unit(0, 1)), ("text", unit(0, 0, 1)))
    for name, count in (("simple", 5), ("means", 6), ("broken", 6), ("sample", None)):
        folder = tmp_path / name
        folder.mkdir()
        with tenant_scope(party.id):
            if name == "simple":
                circle(party, 5)
            elif name == "means":
                place(party, *film, modality="video")
            elif name == "broken":
                damaged = place(party, ("text", unit(1)))
                Vector.objects.filter(asset=damaged).update(data=(unit(1) * np.float32(np.nan)).tobytes())
            asked = wanted(most=3) if name == "sample" else wanted()
            simple = read_vectors(asked)
        held = map_points.read_into(folder, party.id, asked)
        assert count in (None, len(held.ids))
        assert (held.ids == simple.ids).all()
        assert (np.fromfile(folder / VECTORS, "<f4") == simple.vectors.ravel()).all()
        assert (np.fromfile(folder / KINDS, np.uint8) == simple.kinds).all()
        if count:
            assert {path.name for path in folder.iterdir()} == {VECTORS, KINDS}


def test_datasets_modality_and_model_narrow_what_is_read(party: Any) -> None:
    with tenant_scope(party.id):
        one, two = (create_dataset(name=uuid.uuid4().hex) for _ in range(2))
        text = place(party, ("text", unit(1)), dataset=one)
        picture = place(party, ("image", unit(0, 1)), dataset=two, modality="image")
        place(party, ("text", unit(0, 0, 1)), dataset=two, model="other:1")
        assert map_points.ids_of(read_vectors(wanted(dataset_ids=(one.id,))).ids) == [str(text.id)]
        assert map_points.ids_of(read_vectors(wanted(modality="image")).ids) == [str(picture.id)]
        assert len(read_vectors(Wanted("other:1")).ids) == 1
        assert len(read_vectors(Wanted("nothing:1")).ids) == 0


def test_of_too_many_a_fair_sample_is_taken_always_the_same(party: Any) -> None:
    with tenant_scope(party.id):
        circle(party, 200)
        first, second = read_vectors(wanted(most=50)), read_vectors(wanted(most=50))
        assert first.total == 200
        assert 20 <= len(first.ids) <= 50
        assert (first.ids == second.ids).all()
        assert len(read_vectors(wanted(most=200)).ids) == 200


def test_another_tenant_sees_nothing_of_it(party: Any, stranger: Any) -> None:
    with tenant_scope(party.id):
        circle(party, 5)
        kept, _ = maps.create_map(name="mine")
        live = model_routing.live()
    # From now on it is remembered.
    assert len(map_points.placed(party.id, Wanted(live)).ids) == 5
    with tenant_scope(stranger.id):
        assert len(read_vectors(wanted()).ids) == 0
        assert not maps.list_maps().exists()
        with pytest.raises(NotFound):
            maps.get_map(kept.id)
        with pytest.raises(NotFound):
            maps.delete_map(map_id=kept.id)
    assert len(map_points.placed(stranger.id, Wanted(live)).ids) == 0


# --- PCA at once -----------------------------------------------------------------------------------------


def test_a_circle_is_drawn_as_a_circle(party: Any) -> None:
    with tenant_scope(party.id):
        made = circle(party, 40)
        live = model_routing.live()
    found = map_points.placed(party.id, Wanted(live))
    assert found.total == 40
    assert set(map_points.ids_of(found.ids)) == {str(one.id) for one in made}
    assert np.allclose(np.linalg.norm(found.places, axis=1), 1, atol=1e-5)
    assert found.details["explained"] == [0.5, 0.5]
    assert found.details["kept_neighbours"] == 1


def test_it_is_computed_once_and_anew_when_vectors_changed(
    party: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(map_points, "FRESH_S", 0.0)
    with tenant_scope(party.id):
        dataset = create_dataset(name="one")
        circle(party, 3, dataset)
        live = model_routing.live()
    first = map_points.placed(party.id, Wanted(live))
    with CaptureQueriesContext(connection) as asked:
        assert map_points.placed(party.id, Wanted(live)) is first
    assert not any("COPY" in one["sql"] for one in asked)
    with tenant_scope(party.id):
        circle(party, 1, dataset)
    assert len(map_points.placed(party.id, Wanted(live)).ids) == 4


def test_what_was_deleted_blocked_or_held_back_is_not_shown_of_an_old_map(party: Any) -> None:
    with tenant_scope(party.id):
        made, gone = circle(party, 6), create_dataset(name="gone")
        hidden = circle(party, 2, gone)
        live = model_routing.live()
    old = map_points.placed(party.id, Wanted(live))
    assert len(old.ids) == 8
    with tenant_scope(party.id):
        erase_asset(asset_id=made[0].id)
        Asset.objects.filter(pk=made[1].pk).update(moderation="block")
        Asset.objects.filter(pk=made[2].pk).update(moderation="quarantined")
        Asset.objects.filter(pk=made[3].pk).update(moderation="review")
        delete_dataset(dataset_id=gone.id)
        found = map_points.shown(old)
    assert set(found.ids) == {str(one.id) for one in made[3:]}
    assert not {str(one.id) for one in hidden} & set(found.ids)
    assert len(found.places) == 3
    verdicts = found.columns["verdict"]
    assert verdicts["values"] == ["review"]
    assert verdicts["codes"][found.ids.index(str(made[3].id))] == 0
    assert verdicts["codes"].count(map_points.NONE) == 2


def test_points_keep_their_places_beside_their_ids(party: Any) -> None:
    with tenant_scope(party.id):
        made = circle(party, 8)
        live = model_routing.live()
    whole = map_points.placed(party.id, Wanted(live))
    at = dict(zip(map_points.ids_of(whole.ids), whole.places.tolist(), strict=True))
    with tenant_scope(party.id):
        erase_asset(asset_id=made[4].id)
        found = map_points.shown(whole)
    assert dict(zip(found.ids, found.places.tolist(), strict=True)) == {
        one: where for one, where in at.items() if one != str(made[4].id)
    }


def test_metadata_is_numbers_or_values(party: Any) -> None:
    with tenant_scope(party.id):
        made = circle(party, 4)
        Facet.objects.bulk_create(
            [
                *(Facet(asset=one, key="price", number=n) for n, one in enumerate(made[:3])),
                *(Facet(asset=one, key="colour", text="red") for one in made[:2]),
                Facet(asset=made[2], key="colour", text="blue"),
            ]
        )
        live = model_routing.live()
    found = map_points.placed(party.id, Wanted(live))
    with tenant_scope(party.id):
        prices = map_points.shown(found, key="price")
        shades = map_points.shown(found, key="colour")
    number = dict(zip(prices.ids, prices.columns["field"]["numbers"], strict=True))
    assert [number[str(one.id)] for one in made] == [0, 1, 2, None]
    codes = dict(zip(shades.ids, shades.columns["field"]["codes"], strict=True))
    assert shades.columns["field"]["values"] == ["red", "blue"]
    assert [codes[str(one.id)] for one in made] == [0, 0, 1, map_points.NONE]


def test_values_beyond_the_list_are_told_as_one() -> None:
    names = [f"v{n:03}" for n in range(map_points.MOST_VALUES + 5)]
    found = map_points.coded([*names, names[-1], None])
    assert found["values"][0] == names[-1]
    assert len(found["values"]) == map_points.MOST_VALUES
    assert found["codes"].count(map_points.OTHER) == 5
    assert found["codes"][-1] == map_points.NONE


# --- UMAP, a job -------------------------------------------------------------------------------------------


def drawn(party: Any, count: int = 40) -> tuple[EmbeddingMap, Job]:
    with tenant_scope(party.id):
        circle(party, count)
        row, queued = maps.create_map(name="a map", method="umap")
    assert queued is not None
    return row, queued


def stored(party: Any) -> list[str]:
    return list(storage.files_below(f"{party.id}/{map_points.KIND}"))


def test_a_map_by_umap_is_drawn_by_its_job(
    party: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Compiling would take many times as long as 40 points do without; test_projection compiles.
    environment = maps._environment
    monkeypatch.setattr(
        maps, "_environment", lambda folder: {**environment(folder), "NUMBA_DISABLE_JIT": "1"}
    )
    row, queued = drawn(party)
    assert row.state == "pending"
    with pytest.raises(NotReady):
        map_points.points_of(party.id, row)
    run_job(str(queued.id), str(party.id))
    assert len(Api(party.token).get(f"/maps/{row.id}/points").json()["ids"]) == 40
    with tenant_scope(party.id):
        row.refresh_from_db()
        queued.refresh_from_db()
    assert (queued.state, queued.error) == ("succeeded", None)
    assert (row.state, row.total, row.points, row.details["used"]) == ("ready", 40, 40, "umap")
    with tenant_scope(party.id):
        said = [note.text for note in log_of(queued.id)]
    assert said[0] == "Took 40 of 40 assets."
    assert "Placing the points." in said
    assert queued.result["kept_neighbours"] == row.details["kept_neighbours"] > 0.5
    found = map_points.points_of(party.id, row)
    assert found.places.shape == (40, 2)
    assert np.isfinite(found.places).all()
    path = map_points.path_of(party.id, row.id)
    assert sorted(stored(party)) == [path, f"{path}{map_points.GROUPS}"]
    # A circle has no outliers, and clusters that are arcs.
    assert (row.details["topics"], row.details["outliers"]) == (3, 0)
    groups = map_points.points_of(party.id, row).groups
    assert groups is not None
    assert set(groups["topic"].tolist()) == {0, 1, 2}
    assert "Looking for topics and outliers." in said
    assert not list(settings.SPOOL_DIR.glob("map-*"))
    with tenant_scope(party.id):
        maps.delete_map(map_id=row.id)
        assert not maps.list_maps().exists()
    assert stored(party) == []


def test_a_cancelled_job_ends_its_process_and_leaves_nothing(
    party: Any, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, queued = drawn(party, 400)
    started: list[Any] = []
    follow = maps._follow

    def followed(claimed: Any, process: Any) -> Any:
        started.append(process)
        with tenant_scope(party.id):
            jobs.cancel(job_id=queued.id)
        return follow(claimed, process)

    monkeypatch.setattr(maps, "_follow", followed)
    run_job(str(queued.id), str(party.id))
    assert started[0].status == -9
    with tenant_scope(party.id):
        queued.refresh_from_db()
        row.refresh_from_db()
    assert queued.state == "cancelled"
    assert (row.state, row.error["type"]) == ("failed", "cancelled")
    assert stored(party) == []
    assert not list(settings.SPOOL_DIR.glob("map-*"))


def test_a_map_that_is_deleted_while_it_is_drawn_leaves_no_file(
    party: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, queued = drawn(party, 5)
    keep = maps._keep

    def kept(*given: Any) -> None:
        with tenant_scope(party.id):
            EmbeddingMap.objects.filter(pk=row.pk).delete()
        keep(*given)

    monkeypatch.setattr(maps, "_keep", kept)
    run_job(str(queued.id), str(party.id))
    with tenant_scope(party.id):
        queued.refresh_from_db()
        assert (queued.state, queued.error["type"]) == ("failed", "not-found")
        assert map_points.tidy_points() == 2
        assert map_points.tidy_points() == 0
    assert stored(party) == []


def test_a_process_that_dies_is_tried_again_and_then_the_map_says_so(
    party: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, queued = drawn(party, 5)

    def dies(*_: Any) -> None:
        raise RuntimeError("the process ended with status -9")

    monkeypatch.setattr(maps, "_drawn", dies)
    for attempt in (1, 2, 3):
        run_job(str(queued.id), str(party.id), maps.project_map)
        with tenant_scope(party.id):
            row.refresh_from_db()
            assert row.state == ("failed" if attempt == 3 else "pending")
    monkeypatch.undo()
    with tenant_scope(party.id):
        jobs.retry(job_id=queued.id)
        row.refresh_from_db()
        assert (row.state, row.error) == ("pending", None)
    run_job(str(queued.id), str(party.id))
    with tenant_scope(party.id):
        row.refresh_from_db()
    assert (row.state, row.details["used"], row.points) == ("ready", "pca", 5)


def test_points_that_are_gone_from_the_storage_are_said_to_be(party: Any) -> None:
    row, queued = drawn(party, 5)
    run_job(str(queued.id), str(party.id))
    default_storage.delete(map_points.path_of(party.id, row.id))
    with tenant_scope(party.id):
        row.refresh_from_db()
    with pytest.raises(NotReady, match="gone from the storage"):
        map_points.points_of(party.id, row)


# --- What is refused -----------------------------------------------------------------------------------------


def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(party: Any) -> None:
    with tenant_scope(party.id):
        for refused, error in (
            ({"method": "tsne"}, Invalid),
            ({"modality": "smell"}, Invalid),
            ({"name": "x" * 101}, Invalid),
            ({"name": "\x00"}, Invalid),
            ({"params": maps.Params(neighbours=1)}, Invalid),
            ({"params": maps.Params(min_dist=1.0)}, Invalid),
            ({"params": maps.Params(min_dist=float("nan"))}, Invalid),
            ({"model": "cman-nothing:1"}, NotReady),
            ({"dataset_ids": [uuid.uuid4()]}, NotFound),
        ):
            with pytest.raises(error):
                maps.create_map(**refused)
        assert not maps.list_maps().exists()
        assert not Job.objects.exists()


def test_umap_can_be_turned_off_and_only_so_many_are_drawn_at_once(
    party: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tenant_scope(party.id):
        for _ in range(maps.MOST_AT_ONCE):
            maps.create_map(method="umap")
        with pytest.raises(Conflict, match="being drawn already"):
            maps.create_map(method="umap")
        monkeypatch.setattr(maps.flags, "enabled", lambda flag, tenant_id: False)
        with pytest.raises(NotAllowed, match="turned off"):
            maps.create_map(method="umap")
        maps.create_map(method="pca")


# --- Comparing -----------------------------------------------------------------------------------------------


def test_the_matrix_is_what_more_like_this_would_find(party: Any, stranger: Any) -> None:
    with tenant_scope(party.id):
        made = [place(party, ("text", unit(*one))) for one in ((1,), (0, 1), (1, 0.2))]
    found = map_points.matrix_of(party.id, [one.id for one in made])
    assert set(found["assets"]) == {str(one.id) for one in made}
    at = {one: n for n, one in enumerate(found["assets"])}
    alike = found["matrix"][at[str(made[0].id)]][at[str(made[2].id)]]
    assert alike == pytest.approx(float(unit(1) @ unit(1, 0.2)), abs=1e-3)
    assert found["matrix"][at[str(made[0].id)]][at[str(made[1].id)]] == pytest.approx(0, abs=1e-4)
    # Like stands beside like: the odd one is at an end.
    assert at[str(made[1].id)] in (0, 2)
    with pytest.raises(NotFound):
        map_points.matrix_of(stranger.id, [one.id for one in made])
    with pytest.raises(Invalid):
        map_points.matrix_of(party.id, [made[0].id])
    with pytest.raises(Invalid):
        map_points.matrix_of(party.id, [uuid.uuid4() for _ in range(map_points.MOST_COMPARED + 1)])


def test_two_models_are_laid_over_each_other_and_what_moved_is_told(party: Any) -> None:
    with tenant_scope(party.id):
        made = circle(party, 30)
        only_before = circle(party, 1)
        # The other model has the same circle in other dimensions, turned, but for one asset.
        for n, asset in enumerate(made):
            turn = 2 * np.pi * (n if n != 7 else 22) / 30 + 1.3
            vector = unit(0, 0, 0, np.cos(turn), np.sin(turn))
            add_vectors(model="other:1", vectors=[(asset, [NewVector("text", vector)])])
        live = model_routing.live()
    found = map_points.compared(party.id, Wanted(live), "other:1")
    ids = map_points.ids_of(found.before.ids)
    assert set(ids) == {str(one.id) for one in made}
    assert str(only_before[0].id) not in ids
    assert ids[int(found.moved.argmax())] == str(made[7].id)
    assert np.median(found.moved) < 0.2 < found.moved.max()
