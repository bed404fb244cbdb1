"""Looking at pairs: parts that survive a kill, files that no decoder reads, and what is written of the rest."""

from __future__ import annotations

import pytest

from ml.training.shards import read_pairs
from tenants.datasets import storage
from tenants.learning import features
from tenants.learning.features import Extracted, extract
from tenants.learning.pairs import Pairs
from tenants.scope import tenant_scope
from tests.tenants.learning.world import Space, add_pairs, add_picture, drawing, new_dataset


@pytest.fixture
def dataset(party):
    with tenant_scope(party.id):
        made = new_dataset()
        add_pairs(made, 10)
        return made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(features, "PART", 4)
    monkeypatch.setattr(features, "LOOK", 3)


def pairs_of(party, dataset, **options):
    return Pairs(party.id, str(dataset.id), **options)


def run(party, dataset, folder, space=None, told=lambda done, cpu_s: None):
    return extract(pairs_of(party, dataset), space or Space(), folder, told)


def written(folder):
    return list(read_pairs([str(folder / "pairs")]))


def test_every_pair_is_written_once_with_its_words_and_group(party, dataset, tmp_path):
    done = run(party, dataset, tmp_path)
    found = {pair.captions[0]: pair for pair in written(tmp_path)}
    assert (done.pictures, done.captions, done.unreadable, done.parts) == (10, 10, 0, 3)
    wanted = {one.captions[0]: one for one in pairs_of(party, dataset).after(None)}
    assert found.keys() == wanted.keys()
    for text, pair in found.items():
        assert (pair.key, pair.group) == (str(wanted[text].asset_id), wanted[text].group)
        assert pair.text[0, 0] == len(text)
        assert pair.features.shape == (3,)


@pytest.mark.guard
def test_an_attempt_that_was_killed_is_gone_on_with(party, dataset, tmp_path):
    class Killed(BaseException):
        pass

    def die(done, cpu_s):
        if done.parts == 2:
            raise Killed

    whole = tmp_path / "whole"
    expected = run(party, dataset, whole)
    space, folder = Space(), tmp_path / "parts"
    with pytest.raises(Killed):
        run(party, dataset, folder, space, die)
    # As a kill in the middle of the third part leaves it, and one between its name and the note of it.
    (folder / "writing").mkdir()
    (folder / "pairs" / "00002").mkdir()
    (folder / "pairs" / "00002" / "part-00000.parquet").write_bytes(b"half")
    done = run(party, dataset, folder, space)
    assert space.seen == 10
    assert (done.pictures, done.digest) == (expected.pictures, expected.digest)
    assert [pair.key for pair in written(folder)] == [pair.key for pair in written(whole)]


def test_what_no_decoder_reads_is_counted_and_named(party, dataset, tmp_path):
    with tenant_scope(party.id):
        torn = add_picture(dataset, drawing("large black cross", 99)[:-40], "torn")
        bomb = add_picture(dataset, b"\x89PNG\r\n\x1a\n" + b"\x00" * 64, "no picture")
        gone = add_picture(dataset, drawing("tiny black cross", 98), "gone")
    storage.remove(party.id, gone.blob.sha256)
    done = run(party, dataset, tmp_path)
    assert done.pictures + done.unreadable == 13
    assert {str(bomb.id), str(gone.id)} <= set(done.samples)
    assert set(done.samples) <= {str(one.id) for one in (torn, bomb, gone)}
    assert len(written(tmp_path)) == done.pictures


def test_progress_is_told_part_by_part_and_may_stop_it(party, dataset, tmp_path):
    told = []
    run(
        party, dataset, tmp_path, told=lambda done, cpu_s: told.append((done.parts, done.pictures, cpu_s > 0))
    )
    assert told == [(1, 4, True), (2, 8, True), (3, 10, True)]


def test_nothing_to_look_at_is_no_error(party, tmp_path):
    with tenant_scope(party.id):
        empty = new_dataset()
    assert run(party, empty, tmp_path).pictures == 0
    assert Extracted.read(tmp_path) is None
    assert written(tmp_path) == []
