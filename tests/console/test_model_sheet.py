"""Reading what a training reports: the headline, the tables, and the curves as charts."""

from __future__ import annotations

from console import charts
from console.learning.presenters import headline_of, quality_of, tables_of
from tests.console import learning


def test_the_headline_is_against_the_best_traditional_method() -> None:
    found = headline_of(learning.metrics())
    assert found is not None
    assert found.traditional and found.traditional.name == "Regularised CCA"
    assert found.parent and (found.parent.difference, found.parent.is_sure) == (0.12, True)
    assert [table.way for table in tables_of(learning.metrics())] == ["text>image", "image>text"]
    assert headline_of(None) is None


def test_a_chart_spans_its_box_and_leaves_out_what_is_not_a_number() -> None:
    points = [
        {"loss": 3.0, "epoch": 0},
        {"loss": float("nan"), "epoch": 1},
        {"loss": 1.0, "epoch": 2, "best": True},
    ]
    [chart] = charts.line_charts_of(points)
    assert chart.dots == [(6.0, 6.0), (314.0, 114.0)]
    assert chart.best == (314.0, 114.0)
    assert charts.line_charts_of([]) == []
    flat = charts.line_charts_of([{"loss": 1.0}])
    assert flat[0].dots == [(160.0, 60.0)]


def test_reports_on_the_data_are_read_by_phase_and_odd_ones_left_out() -> None:
    both = {"general": learning.quality()["adapt"], "domain": learning.quality()["adapt"]}
    assert [phase for phase, _ in quality_of(both)] == ["general", "domain"]
    for odd in (None, {}, [], {"adapt": None}, {"items": 3}):
        assert quality_of(odd) == []
