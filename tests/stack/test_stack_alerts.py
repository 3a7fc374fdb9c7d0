"""Each alert fires on the series that it is for: Prometheus itself computes its expression."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.stack.harness import Stack

ROOT = Path(__file__).parents[2]
RULES = {
    rule["alert"]: rule["expr"]
    for group in yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
IMAGE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["prometheus"]["image"]
AFTER = 20 * 60
_WHERE = 'job="kgl",instance="a:8000"'

Series = Mapping[str, str]
FIRES: Mapping[str, tuple[Series, str]] = {
    # alert: series, with their values every 15 s, and the labels of what fires
    "ProcessDown": ({f'up{{{_WHERE},process="graph-api"}}': "0x80"}, f'up{{{_WHERE},process="graph-api"}}'),
    "NoProcess": ({'up{job="another"}': "1x80"}, '{job="kgl"}'),
    "BrokerLostData": ({f'kgl_outbox_broker_lost_data{{{_WHERE},service="graph"}}': "1x80"}, '{service="graph"}'),
    "OutboxWaits": ({f'kgl_outbox_oldest_seconds{{{_WHERE},service="graph"}}': "0+15x80"}, '{service="graph"}'),
    "EventRefusedByBus": (
        {f'kgl_outbox_refused_events_total{{{_WHERE},service="graph"}}': "0x70 1x10"},
        f'{{{_WHERE},service="graph"}}',
    ),
    "SubscriptionPaused": (
        {f'kgl_consumer_paused{{{_WHERE},subscription="a.b"}}': "1x80"},
        f'kgl_consumer_paused{{{_WHERE},subscription="a.b"}}',
    ),
    "SubscriptionBreakerOpen": (
        {f'kgl_consumer_breaker_open{{{_WHERE},subscription="a.b"}}': "1x80"},
        f'kgl_consumer_breaker_open{{{_WHERE},subscription="a.b"}}',
    ),
    "EventsHeld": (
        {f'kgl_consumer_events_total{{{_WHERE},subscription="a.b",outcome="refused"}}': "0x70 1x10"},
        f'{{{_WHERE},subscription="a.b",outcome="refused"}}',
    ),
    "ConsumerLags": (
        {f'kgl_consumer_lag_events{{{_WHERE},subscription="a.b"}}': "1000+10x80"},
        '{subscription="a.b"}',
    ),
    "SubscriptionStandsStill": (
        {f'kgl_consumer_stands_still_events{{{_WHERE},subscription="a.b"}}': "7x80"},
        '{subscription="a.b"}',
    ),
    "DeadLetters": (
        {f'kgl_dead_letter_oldest_seconds{{{_WHERE},subscription="a.b"}}': "0+15x80"},
        '{subscription="a.b"}',
    ),
    "HeldEventsPileUp": ({f'kgl_held_events{{{_WHERE},subscription="a.b"}}': "1001x80"}, '{subscription="a.b"}'),
    "StagesOverdue": ({f'kgl_overdue_stages{{{_WHERE},stage="graph.index"}}': "1x80"}, '{stage="graph.index"}'),
    "OperationUnfinished": ({f"kgl_oldest_unfinished_age_seconds{{{_WHERE}}}": "32401x80"}, "{}"),
    "JobsWait": (
        {f'kgl_job_queue_oldest_seconds{{{_WHERE},kind="a.b",job_class="bulk"}}': "901x80"},
        f'kgl_job_queue_oldest_seconds{{{_WHERE},kind="a.b",job_class="bulk"}}',
    ),
    "Drift": ({f'kgl_drift_items{{{_WHERE},check="graph.search"}}': "1x80"}, '{check="graph.search"}'),
    "AuditChainBroken": (
        {f'kgl_audit_chain_broken{{{_WHERE},chain="instance"}}': "1x80"},
        f'kgl_audit_chain_broken{{{_WHERE},chain="instance"}}',
    ),
    "ServerErrors": (
        {
            f'kgl_http_requests_total{{{_WHERE},service="graph",status="200"}}': "0+9x80",
            f'kgl_http_requests_total{{{_WHERE},service="graph",status="503"}}': "0+1x80",
        },
        '{service="graph"}',
    ),
}


def test_there_are_series_for_each_alert() -> None:
    assert FIRES.keys() == RULES.keys()


def written(folder: Path) -> Path:
    """The tests for promtool: each alert on its series, and all of them where all is well."""
    tests: list[dict[str, Any]] = []
    for name, (series, _) in FIRES.items():
        given = [{"series": one, "values": values} for one, values in series.items()]
        tests.append({"name": name, "interval": "15s", "input_series": given, "promql_expr_test": [_asked(name)]})
    quiet = [
        {"series": one, "values": "1x80" if one.startswith("up{") else "0x80"}
        for series, _ in FIRES.values()
        for one in series
        if one != 'up{job="another"}'
    ]
    calm = [{"expr": RULES[name], "eval_time": f"{AFTER}s", "exp_samples": []} for name in RULES]
    tests.append({"name": "well", "interval": "15s", "input_series": quiet, "promql_expr_test": calm})
    folder.chmod(0o755)
    file = folder / "tests.yml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "15s", "tests": tests}))
    return file


async def test_each_alert_fires_on_its_series_and_none_where_all_is_well(stack: Stack, tmp_path: Path) -> None:
    said = await stack.docker(
        *("run", "--rm", "--network", "none", "--volume", f"{written(tmp_path)}:/tests.yml:ro"),
        *("--entrypoint", "promtool", IMAGE, "test", "rules", "/tests.yml"),
    )
    assert "SUCCESS" in said, said


def _asked(name: str) -> dict[str, Any]:
    """The expression holds of exactly this in the end, whatever its value is."""
    return {
        "expr": f"({RULES[name]}) * 0 + 1",
        "eval_time": f"{AFTER}s",
        "exp_samples": [{"labels": _bare(FIRES[name][1]), "value": 1}],
    }


def _bare(labels: str) -> str:
    """Arithmetic takes the name of the metric away."""
    return labels[labels.index("{") :]
