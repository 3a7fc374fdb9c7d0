"""Dashboards and alerts: in the form that Grafana and Prometheus read, and of metrics and labels that the code has."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

import kgl_cli.system  # noqa: F401 - loads all services, which register their metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
SOURCE = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0]
ADDED = {"job", "instance", "process", "le"}
"""Labels that Prometheus adds by its own configuration, and that of buckets."""
_NAME = re.compile(r"\b(kgl_\w+|process_\w+|up)\b(?!\s*=)(\{[^}]*\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPED = re.compile(r"\bby\s*\(([^)]*)\)")


def known() -> dict[str, set[str]]:
    """The labels of each metric of ours, under each name that it has in Prometheus."""
    found: dict[str, set[str]] = {"up": set()}
    for collector in list(REGISTRY._collector_to_names):
        labels = set(getattr(collector, "_labelnames", ()))
        found |= dict.fromkeys(REGISTRY._collector_to_names[collector], labels)
    return found


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        yield variable["query"]["query"]


def alerts() -> list[str]:
    groups = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text())["groups"]
    return [rule["expr"] for group in groups for rule in group["rules"]]


def strange(query: str, metrics: dict[str, set[str]]) -> Iterator[str]:
    """Names and labels that nothing registers."""
    bare = re.sub(r'"[^"]*"', '""', query)
    labels = set(ADDED)
    for name, selector in _NAME.findall(bare):
        if name not in metrics:
            yield name
            continue
        labels |= metrics[name]
        yield from (f"{name}.{label}" for label in _LABEL.findall(selector) if label not in metrics[name] | ADDED)
    for grouped in _GROUPED.findall(bare):
        yield from (f"by {label.strip()}" for label in grouped.split(",") if label.strip() not in labels)


def load(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_there_is_a_dashboard_for_each_question() -> None:
    dashboards = [load(path) for path in DASHBOARDS]
    assert {each["title"] for each in dashboards} == {"System", "Events", "Jobs and receipts"}
    assert len({each["uid"] for each in dashboards}) == len(dashboards)


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_has_the_parts_that_grafana_needs_and_nobody_edits_it(path: Path) -> None:
    dashboard = load(path)
    assert dashboard["editable"] is False
    assert dashboard["schemaVersion"] >= 39
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        assert panel["type"] in {"timeseries", "stat"}, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": SOURCE["type"], "uid": SOURCE["uid"]} for source in sources), panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0, panel["title"]
    variables = {f"${variable['name']}" for variable in dashboard["templating"]["list"]}
    assert {name for query in queries(dashboard) for name in re.findall(r"\$\w+", query)} <= variables


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_metric_and_label_of_a_dashboard_is_one_of_the_code(path: Path) -> None:
    metrics = known()
    assert {query: found for query in queries(load(path)) if (found := list(strange(query, metrics)))} == {}


def test_every_metric_and_label_of_an_alert_is_one_of_the_code() -> None:
    metrics = known()
    assert {query: found for query in alerts() if (found := list(strange(query, metrics)))} == {}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("rate(kgl_nothing_total[5m])", ["kgl_nothing_total"]),
        ('sum by (service) (kgl_jobs_total{kind="up"})', ["by service"]),
        ('kgl_jobs_total{kinds=~"a"}', ["kgl_jobs_total.kinds"]),
        ("histogram_quantile(0.5, sum by (kind, le) (rate(kgl_job_seconds_bucket[5m])))", []),
    ],
)
def test_a_name_that_nothing_registers_is_found(query: str, found: list[str]) -> None:
    assert list(strange(query, known())) == found
