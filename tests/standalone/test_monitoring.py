"""Alerts, runbooks, dashboards and the doctor speak of the same things, and of metrics that there are."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import Client

from standalone.doctor.alerts import ALERTS
from standalone.management.commands.doctor import CHECKS

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "deploy" / "monitoring"
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
METRIC = re.compile(r"\bcrosslight[_:][a-z0-9_:]+")
# What Prometheus appends to a counter's or a histogram's name.
SUFFIXES = re.compile(r"_(total|bucket|count|sum)$")


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in RULES if "alert" in rule}


def known() -> set[str]:
    """The names in the code that makes metrics."""
    folder = ROOT / "platform" / "config"
    texts = [(folder / name).read_text() for name in ("metrics.py", "job_metrics.py")]
    named = {name for text in texts for name in re.findall(r'"(crosslight_[a-z_]+)"', text)}
    # Of indexes the last part stands in a table.
    table = {f"crosslight_index_{name}" for name in re.findall(r'\("([a-z_]+)", "', texts[0])}
    return named | table


def test_every_alert_has_a_runbook_and_a_way_to_its_cause() -> None:
    sections = set(
        re.findall(r"^## (Crosslight\w+)$", (ROOT / "docs" / "runbooks.md").read_text(), re.MULTILINE)
    )
    anchors = {name: rule["annotations"]["runbook"].partition("#")[2] for name, rule in alerts().items()}
    assert set(anchors.values()) == {name.lower() for name in sections}
    assert set(alerts()) == set(ALERTS)
    assert {rule["labels"]["severity"] for rule in alerts().values()} == {"page", "ticket"}


def test_the_doctor_asks_checks_that_there_are() -> None:
    there = {check.name for check in CHECKS}
    assert {name for alert in ALERTS.values() for name in alert.checks} <= there


def test_rules_and_dashboards_ask_for_metrics_that_there_are() -> None:
    panels = [
        panel
        for path in sorted((MONITORING / "dashboards").glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
    ]
    assert len(panels) == 24
    asked = [rule["expr"] for rule in RULES] + [one["expr"] for panel in panels for one in panel["targets"]]
    names = {name for expression in asked for name in METRIC.findall(expression)}
    assert {SUFFIXES.sub("", name) for name in names - RECORDED} <= known()


def test_burn_rates_use_both_windows_of_one_objective() -> None:
    """The short window ends the alert soon after its cause; a typing error would join two objectives."""
    for name, rule in alerts().items():
        used = re.findall(r"crosslight:(\w+):ratio_rate(\w+)", rule["expr"])
        if used:
            assert len({objective for objective, _ in used}) == 1, name
            fast = ["1h", "5m", "6h", "30m"]
            assert [window for _, window in used] == (
                fast if name.endswith("Fast") else ["1d", "2h", "3d", "6h"]
            )


@pytest.mark.services
def test_the_doctor_explains_an_alert() -> None:
    told = StringIO()
    with suppress(SystemExit):
        # Of a disk that is full indeed.
        call_command("doctor", "--alert", "CrosslightDiskFull", stdout=told)
    assert told.getvalue().startswith(ALERTS["CrosslightDiskFull"].meaning)
    assert "docs/runbooks.md, CrosslightDiskFull" in told.getvalue()
    for name in ("disk", "backups"):
        assert name in told.getvalue()
    with pytest.raises(CommandError, match=r"No such alert: Nonsense. There are: CrosslightApiErrorsFast"):
        call_command("doctor", "--alert", "Nonsense")


@pytest.mark.services
def test_the_route_of_a_search_is_the_one_that_the_rules_name() -> None:
    http = Client(raise_request_exception=False)
    http.post("/api/v1/search", b"{}", content_type="application/json")
    text = http.get("/metrics").content.decode()
    assert 'crosslight_request_seconds_bucket{le="0.25",method="POST",route="api/v1/search"}' in text
    (free,) = re.findall(r"^crosslight_disk_free_ratio (\S+)$", text, re.MULTILINE)
    assert 0 < float(free) < 1


@pytest.mark.services
def test_the_age_of_the_last_backup() -> None:
    last = settings.DATA_DIR / "last-backup.json"
    before = last.read_text() if last.exists() else None
    try:
        last.write_text(json.dumps({"created_at": "2026-01-01T00:00:00+00:00"}))
        text = Client().get("/metrics").content.decode()
    finally:
        last.write_text(before) if before else last.unlink()
    (age,) = re.findall(r"^crosslight_backup_age_seconds (\S+)$", text, re.MULTILINE)
    assert float(age) > 86_400
