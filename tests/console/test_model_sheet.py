"""Reading what a training reports: the headline, the tables, and the curves as charts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from console import charts
from console.learning.presenters import comparison_rows, headline_of, quality_of, tables_of
from console.templatetags.model_tags import about, few_queries
from tests.console import learning


def test_the_headline_is_against_the_best_traditional_method() -> None:
    found = headline_of(learning.metrics())
    assert found is not None
    assert found.traditional and found.traditional.name == "Regularised CCA"
    assert found.parent and (found.parent.difference, found.parent.is_sure) == (0.12, True)
    assert [table.way for table in tables_of(learning.metrics())] == ["text>image", "image>text"]
    assert headline_of(None) is None


def run(*points: dict[str, Any], name: str = "a") -> charts.Run:
    return charts.Run(name, points)


def losses(*values: float, phase: str = "adapt") -> list[dict[str, Any]]:
    return [{"phase": phase, "epoch": epoch, "loss": value} for epoch, value in enumerate(values)]


def test_a_chart_spans_its_axes_and_leaves_out_what_is_not_a_number() -> None:
    points = [
        {"loss": 3.0, "epoch": 0},
        {"loss": float("nan"), "epoch": 1},
        {"loss": 1e300, "epoch": 1},
        {"loss": True, "epoch": 1},
        {"loss": 1.0, "epoch": 2, "best": True},
    ]
    [chart] = charts.line_charts_of([run(*points)])
    [curve] = chart.curves
    assert curve.dots == [(0.0, 0.0), (100.0, 100.0)]
    assert curve.best == (100.0, 100.0)
    assert (curve.path, curve.faint) == ("M0.0 0.0L100.0 100.0", "")
    assert [tick.text for tick in chart.x_ticks] == ["0", "1", "2"]
    assert [tick.text for tick in chart.y_ticks] == ["1.0", "1.5", "2.0", "2.5", "3.0"]
    assert [tick.at for tick in chart.y_ticks] == [100.0, 75.0, 50.0, 25.0, 0.0]
    assert json.loads(curve.readings) == [[0.0, 0.0, "Epoch 0", "3"], [100.0, 100.0, "Epoch 2", "1"]]
    assert charts.line_charts_of([]) == charts.line_charts_of([run()]) == []
    # One point is no curve.
    assert charts.line_charts_of([run({"loss": 1.0})]) == []


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.21, 0.3, [0.2, 0.22, 0.24, 0.26, 0.28, 0.3]),
        (-5, 7, [-5, -2.5, 0, 2.5, 5, 7.5]),
        (3, 3, [2, 3, 4]),
        (0, 0, [0, 0.2]),
        (1e12, 1e12, [8e11, 1e12, 1.2e12]),
    ],
)
def test_axes_have_round_values_around_what_they_hold(low: float, high: float, values: list[float]) -> None:
    assert charts.round_values(low, high) == pytest.approx(values)


def test_an_axis_counts_epochs_whole_and_bytes_by_1024() -> None:
    assert charts.round_values(0, 1, whole=True) == [0, 1]
    assert charts.round_values(0, 23, most=6, whole=True) == [0, 5, 10, 15, 20, 25]
    assert charts.round_values(0, 3 * 1024**3, most=3, unit=1024**3) == [0, 1024**3, 2 * 1024**3, 3 * 1024**3]


def test_shares_are_in_per_cent_and_the_second_stage_goes_on_where_the_first_ended() -> None:
    both = [*losses(4, 3, 2, phase="general"), *losses(8, 6, phase="domain")]
    for point in both:
        point["validation"] = {"r1": point["loss"] / 10}
    loss, r1 = charts.line_charts_of([run(*both)])
    assert [tick.text for tick in r1.y_ticks] == ["20 %", "40 %", "60 %", "80 %"]
    [curve] = loss.curves
    assert [left for left, _top in curve.dots] == [0.0, 33.33, 66.67, 66.67, 100.0]
    assert curve.border == 66.67
    assert curve.path.count("M") == 2
    assert json.loads(curve.readings)[3][2:] == ["Domain · Epoch 0", "8"]


def test_smoothing_averages_what_was_before_without_moving_the_axes() -> None:
    points = losses(4, 0, 0, 4)
    [plain], [smooth] = charts.line_charts_of([run(*points)]), charts.line_charts_of([run(*points)], 0.5)
    assert smooth.y_ticks == plain.y_ticks
    assert smooth.curves[0].faint == plain.curves[0].path
    # 4; (.25·4)/.75; (.125·4)/.875; (.0625·4 + .5·4)/.9375
    assert [one[3] for one in json.loads(smooth.curves[0].readings)] == [
        "4",
        "1.333 (0)",
        "0.5714 (0)",
        "2.4 (4)",
    ]


def test_runs_share_their_axes_and_stand_in_one_table() -> None:
    runs = [run(*losses(4, 2), name="a"), run(*losses(8, 6, 0), name="b"), run(name="c")]
    [chart] = charts.line_charts_of(runs)
    assert [(curve.run, curve.number, curve.dots) for curve in chart.curves] == [
        ("a", 0, [(0.0, 50.0), (50.0, 75.0)]),
        ("b", 1, [(0.0, 0.0), (50.0, 25.0), (100.0, 100.0)]),
    ]
    head, rows = charts.line_rows_of(runs)
    assert head == ["Loss"]
    assert rows[0] == ["a", "adapt", 0, "4"] and rows[-1] == ["b", "adapt", 2, "0"]
    crowd = [run(*losses(1, 2), name=str(number)) for number in range(6)]
    assert len(charts.line_charts_of(crowd)[0].curves) == charts.MAX_RUNS


def test_figures_that_cannot_be_missed_are_left_out() -> None:
    found = learning.metrics()
    for space in ("model", "parent"):
        found["domain"][space]["text>image"]["pool"] = 5
    wide, narrow = tables_of(found)[1], tables_of(found)[0]
    assert (narrow.pool, narrow.recalls) == (5, ["r1"])
    assert (wide.pool, wide.recalls) == (200, ["r1", "r5", "r10"])
    rows = {(row.way, row.figure) for row in comparison_rows([found])}
    assert ("text>image", "r5") not in rows and ("image>text", "r5") in rows
    found["domain"]["model"]["text>image"]["pool"] = 1
    assert headline_of(found) is None


def test_few_queries_are_told_with_what_one_is_worth() -> None:
    assert few_queries(12) == "12 queries: a change of one is 8 points."
    assert few_queries(1) == "1 query: a change of it is 100 points."
    assert [few_queries(odd) for odd in (30, 800, 0, None, "12")] == ["", "", "", "", ""]


def test_what_is_left_is_told_to_the_minute() -> None:
    told = [about(seconds) for seconds in (0, 44, 45, 170, 5_300, 5_500, 86_000)]
    minutes = ["about 1 minute", "about 3 minutes", "about 88 minutes"]
    assert told == ["less than a minute"] * 2 + minutes + ["about 2 hours", "about 24 hours"]


def test_reports_on_the_data_are_read_by_phase_and_odd_ones_left_out() -> None:
    both = {"general": learning.quality()["adapt"], "domain": learning.quality()["adapt"]}
    assert [phase for phase, _ in quality_of(both)] == ["general", "domain"]
    for odd in (None, {}, [], {"adapt": None}, {"items": 3}):
        assert quality_of(odd) == []
