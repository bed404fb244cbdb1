"""Which pairs a model learns from, in which order, and in which groups."""

from __future__ import annotations

import pytest

from tenants.datasets.models import Asset
from tenants.learning import evaluation, pairs
from tenants.learning.pairs import Groups, Pairs
from tenants.scope import tenant_scope
from tests.tenants.learning.world import add_picture, drawing, new_dataset


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        return new_dataset()


def read(party, dataset, **options):
    return list(Pairs(party.id, str(dataset.id), **options).after(None))


def test_only_ready_captioned_pictures_that_nobody_holds_back_are_learnt(party, dataset):
    with tenant_scope(party.id):
        good = add_picture(dataset, drawing("small red circle"), "a circle")
        add_picture(dataset, drawing("small red square"))
        add_picture(dataset, drawing("small red cross"), "a cross", ready=False)
        failed = add_picture(dataset, drawing("large red cross"), "a big cross")
        blocked = add_picture(dataset, drawing("tiny red cross"), "a tiny cross")
        Asset.objects.filter(pk=failed.pk).update(status=Asset.State.FAILED)
        Asset.objects.filter(pk=blocked.pk).update(moderation="block")
        assert (pairs.counts([dataset.id])[dataset.id], pairs.unreadable(dataset.id)) == (1, 1)
    assert [one.asset_id for one in read(party, dataset)] == [good.id]


def test_equal_bytes_are_one_picture_with_several_captions(party, dataset):
    with tenant_scope(party.id):
        first, *_ = [
            add_picture(dataset, drawing("small red circle"), text) for text in ("one", "two", "one")
        ]
        add_picture(dataset, drawing("small blue circle"), "three")
    found = {one.captions: one.asset_id for one in read(party, dataset)}
    assert set(found) == {("one", "two"), ("three",)}
    assert found["one", "two"] == first.id


def test_every_caption_of_an_asset_is_a_pair_and_a_question(party, dataset):
    with tenant_scope(party.id):
        one = add_picture(dataset, drawing("small red circle"), "first")
        one.captions = ["first", "second", "third"]
        one.save()
        copy = add_picture(dataset, drawing("small red circle"), "first")
        copy.captions = ["first", "fourth"]
        copy.save()
        add_picture(dataset, drawing("small blue circle"), "other")
        assert pairs.counts([dataset.id])[dataset.id] == 6
        questions = evaluation.held_out_questions(evaluation.some_captioned())
    assert [found.captions for found in read(party, dataset)] == [
        ("first", "second", "third", "fourth"),
        ("other",),
    ]
    assert sorted(question.text for question in questions) == [
        *("first", "first", "fourth", "other", "second", "third")
    ]
    # The captions of one picture are resampled together.
    found = evaluation.ranking_of(questions, [[next(iter(question.relevant))] for question in questions])
    assert len(set(found.groups)) == 3


def test_pages_neither_skip_nor_repeat_and_reading_goes_on_behind_a_blob(party, dataset, monkeypatch):
    monkeypatch.setattr(pairs, "PAGE", 2)
    with tenant_scope(party.id):
        for n in range(5):
            for text in ("a", "b", "c"):
                add_picture(dataset, drawing("small red circle", n), f"{text}{n}")
    found = read(party, dataset)
    assert len(found) == 5
    assert {one.captions for one in found} == {(f"a{n}", f"b{n}", f"c{n}") for n in range(5)}
    rest = list(Pairs(party.id, str(dataset.id)).after(str(found[1].blob_id)))
    assert [one.asset_id for one in rest] == [one.asset_id for one in found[2:]]


def test_what_comes_later_is_not_read(party, dataset):
    with tenant_scope(party.id):
        first = add_picture(dataset, drawing("small red circle"), "one")
    seen = Pairs(party.id, str(dataset.id))
    with tenant_scope(party.id):
        add_picture(dataset, drawing("small blue circle"), "two")
    assert [one.asset_id for one in seen.after(None)] == [first.id]
    again = Pairs(party.id, str(dataset.id), until=seen.until)
    assert [one.asset_id for one in again.after(None)] == [first.id]


def test_the_same_words_are_one_group_however_they_are_written(party, dataset):
    with tenant_scope(party.id):
        for n, text in enumerate(("A  red apple", "a red Apple", "a pear")):
            add_picture(dataset, drawing("small red circle", n), text)
    by_caption = {one.captions[0]: one.group for one in read(party, dataset)}
    assert by_caption["A  red apple"] == by_caption["a red Apple"] != by_caption["a pear"]


def test_groups_grow_through_shared_pictures():
    groups = Groups()
    for captions in (["a", "b"], ["c"], ["b", "d"]):
        groups.join(iter(captions))
    assert groups.of("a") == groups.of("d") != groups.of("c")


def test_a_key_of_metadata_groups_and_what_lacks_it_goes_by_its_caption(party, dataset):
    with tenant_scope(party.id):
        for n, product in enumerate(("p1", "p1", "p2")):
            picture = drawing("small red circle", n)
            add_picture(dataset, picture, f"t{n}", metadata={"product": product})
        add_picture(dataset, drawing("small red square"), "alone")
    by_caption = {one.captions[0]: one.group for one in read(party, dataset, group_by="product")}
    assert by_caption["t0"] == by_caption["t1"] == 'product="p1"'
    assert by_caption["t2"] == 'product="p2"'
    assert not by_caption["alone"].startswith("product")


def test_another_tenant_reads_nothing_of_it(party, stranger, dataset):
    with tenant_scope(party.id):
        add_picture(dataset, drawing("small red circle"), "one")
    assert read(stranger, dataset) == []
