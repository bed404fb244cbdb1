"""Ranks over the stored vectors, and the figures that are counted from them."""

from __future__ import annotations

import uuid

import pytest

from ml.training import metrics
from tenants.errors import Conflict, Invalid, NotFound
from tenants.learning import evaluation, golden, selectors
from tenants.learning.evaluation import Question
from tenants.learning.models import GoldenAnswer, GoldenQuery
from tenants.pipeline.care.erasure import erase_asset
from tenants.retrieval import model_routing
from tenants.scope import tenant_scope
from tests.tenants.learning.world import add_picture, drawing, embed, new_dataset, unit


@pytest.fixture
def pictures(party):
    with tenant_scope(party.id):
        dataset = new_dataset()
        made = [add_picture(dataset, drawing("small red circle", n), f"picture {n}") for n in range(4)]
        for n, asset in enumerate(made):
            embed(asset, model_routing.default_model(), unit(1, n))
    return made


def rank(party, *questions):
    return evaluation.rankings(party.id, model_routing.default_model(), questions)


def asking(picture, *relevant, **options):
    return Question("", picture.id, frozenset(one.id for one in relevant), **options)


def test_the_nearest_come_first_and_the_picture_itself_does_not_count(party, pictures, monkeypatch):
    monkeypatch.setattr(evaluation, "CHUNK", 3)
    (found,) = rank(party, asking(pictures[3], pictures[2]))
    assert found == [pictures[n].id for n in (2, 1, 0)]


def test_an_asset_counts_once_with_its_best_vector(party, pictures):
    with tenant_scope(party.id):
        embed(pictures[0], model_routing.default_model(), unit(1, 2.9), "text")
        embed(pictures[0], model_routing.default_model(), unit(1, 2.8), "text")
    every, own = rank(party, asking(pictures[3]), asking(pictures[3], own=True))
    assert every == [pictures[n].id for n in (0, 2, 1)]
    assert own == [pictures[n].id for n in (2, 1, 0)]


def test_a_text_is_asked_in_the_words_of_the_space(party, pictures, monkeypatch):
    class Space:
        dimension = 256

        def query_texts(self, texts):
            return [{"first": unit(1), "last": unit(1, 3)}[text] for text in texts]

    monkeypatch.setattr(model_routing, "space", lambda model, tenant_id: Space())
    first, last = rank(party, *(Question(text, None, frozenset()) for text in ("first", "last")))
    assert (first[0], last[0]) == (pictures[0].id, pictures[3].id)


def test_figures_are_those_of_the_training(party):
    a, b, c = (uuid.uuid4() for _ in range(3))
    questions = [Question("x", None, frozenset([a, c])), Question("y", None, frozenset([b]))]
    figures = metrics.figures(evaluation.ranking_of(questions, [[a, b, c], [a, c]]))
    assert (figures["r1"], figures["r10"], figures["mrr"]) == (0.5, 0.5, 0.5)
    assert figures["map"] == pytest.approx((1 + 2 / 3) / 2 / 2, abs=1e-4)


def test_overlap_is_of_the_ten_best():
    ids = [uuid.uuid4() for _ in range(20)]
    assert evaluation.overlap([ids[:10]], [ids[5:15]]) == 0.5
    assert evaluation.overlap([ids[:2], []], [ids[:2], ids]) == 1.0
    assert evaluation.overlap([[]], [[]]) is None


# --- Golden queries ---------------------------------------------------------------------------------------


def test_a_golden_query_knows_its_answers_in_order(party, pictures):
    with tenant_scope(party.id):
        wanted = [pictures[2].id, pictures[1].id, pictures[2].id]
        row = golden.add_golden_query(text="a circle", relevant=wanted, actor="key:x")
        shape = selectors.golden_shape(row, selectors.answers_of([row.id]))
        assert (shape.text, shape.image) == ("a circle", None)
        assert shape.relevant == [str(pictures[2].id), str(pictures[1].id)]


def test_golden_queries_that_make_no_sense(party, stranger, pictures):
    with tenant_scope(stranger.id):
        theirs = add_picture(new_dataset(), drawing("small red circle")).id
    mine = pictures[0].id
    with tenant_scope(party.id):
        for fields in ({"text": "x", "asset_id": mine}, {}, {"text": "  "}, {"text": "\x00"}):
            with pytest.raises(Invalid):
                golden.add_golden_query(**fields, relevant=[pictures[1].id])
        with pytest.raises(Invalid):
            golden.add_golden_query(asset_id=mine, relevant=[mine])
        with pytest.raises(Invalid):
            golden.add_golden_query(text="x", relevant=[])
        for relevant in ([theirs], [uuid.uuid4()]):
            with pytest.raises(NotFound):
                golden.add_golden_query(text="x", relevant=relevant)
        assert not GoldenQuery.objects.exists()


def test_there_are_only_so_many(party, pictures, monkeypatch):
    monkeypatch.setattr(golden, "MAX_QUERIES", 1)
    with tenant_scope(party.id):
        golden.add_golden_query(text="x", relevant=[pictures[0].id])
        with pytest.raises(Conflict):
            golden.add_golden_query(text="y", relevant=[pictures[0].id])


def test_erasing_an_asset_takes_it_out_of_golden_queries(party, pictures):
    with tenant_scope(party.id):
        by_picture = golden.add_golden_query(asset_id=pictures[0].id, relevant=[pictures[1].id])
        by_text = golden.add_golden_query(text="x", relevant=[pictures[0].id, pictures[1].id])
        erase_asset(asset_id=pictures[0].id)
    with tenant_scope(party.id):
        assert not GoldenQuery.objects.filter(pk=by_picture.pk).exists()
        left = GoldenAnswer.objects.filter(golden=by_text).values_list("asset_id", flat=True)
        assert list(left) == [pictures[1].id]
        erase_asset(asset_id=pictures[1].id)
        assert evaluation.golden_questions() == []
