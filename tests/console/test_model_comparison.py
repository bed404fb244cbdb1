"""Models side by side."""

from __future__ import annotations

from django.test import Client

from console.learning.presenters import comparison_rows
from tests.conftest import Party
from tests.tenants.learning.world import new_model


def metrics(r1: float, rank: float) -> dict:
    return {"domain": {"model": {"text>image": {"r1": r1, "median_rank": rank}}}}


def test_the_best_is_the_highest_recall_and_the_lowest_rank() -> None:
    rows = {row.figure: row for row in comparison_rows([metrics(0.4, 3), metrics(0.6, 2), None])}
    assert rows["r1"].values == [0.4, 0.6, None]
    assert rows["r1"].best == {1}
    assert rows["median_rank"].best == {1}
    assert set(rows) == {"r1", "median_rank"}


def test_nobody_is_best_alone_and_equals_share_it() -> None:
    assert comparison_rows([metrics(0.4, 3), None])[0].best == set()
    assert comparison_rows([metrics(0.4, 3), metrics(0.4, 3)])[0].best == {0, 1}
    assert comparison_rows([None, {}]) == []


def test_two_to_four_models_are_shown(party: Party, owner: Client) -> None:
    made = [new_model(party.id, metrics=metrics(0.1 * n, n)) for n in range(1, 4)]
    address = "&".join(f"model={one.id}" for one in made)
    shown = owner.get(f"/models/compare?{address}").content.decode()
    assert all(one.name in shown for one in made)
    assert "<strong>30.0" in shown
    assert "Choose two to four models" in owner.get(f"/models/compare?model={made[0].id}").content.decode()


def test_a_model_of_another_workspace_is_not_found(party: Party, stranger: Party, owner: Client) -> None:
    mine, foreign = new_model(party.id), new_model(stranger.id)
    assert owner.get(f"/models/compare?model={mine.id}&model={foreign.id}").status_code == 404
