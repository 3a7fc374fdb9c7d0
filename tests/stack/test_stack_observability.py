"""Prometheus knows every process and answers what the dashboards ask; the profile that shows them is whole."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.stack.harness import Stack

ROOT = Path(__file__).parents[2]
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "deploy/grafana/dashboards").glob("*.json")}
PROCESSES = {
    f"{name}-{role}" for name in ("auth", "ingest", "graph", "content", "publish") for role in ("api", "worker")
}


def queries(dashboard: dict[str, Any]) -> Iterator[str]:
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])


async def ask(stack: Stack, path: str, **params: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
        answer = await client.get(f"http://{await stack.address('prometheus')}:9090/api/v1/{path}", params=params)
    told: dict[str, Any] = answer.json()
    assert (answer.status_code, told["status"]) == (200, "success"), (params, told)
    found: dict[str, Any] = told["data"]
    return found


async def test_prometheus_scrapes_every_process(stack: Stack) -> None:
    targets = [
        target
        for target in (await ask(stack, "targets", state="active"))["activeTargets"]
        if target["labels"]["job"] == "kgl"
    ]
    assert {target["labels"]["process"] for target in targets} == PROCESSES
    assert {target["health"] for target in targets} == {"up"}, [target["lastError"] for target in targets]


async def test_the_rules_of_the_alerts_are_loaded_and_evaluated(stack: Stack) -> None:
    (group,) = (await ask(stack, "rules"))["groups"]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}, group["rules"]


@pytest.mark.parametrize("name", DASHBOARDS)
async def test_prometheus_answers_every_query_of_a_dashboard(stack: Stack, name: str) -> None:
    dashboard = DASHBOARDS[name]
    answered = 0
    for query in queries(dashboard):
        for variable in dashboard["templating"]["list"]:
            query = query.replace(f"${variable['name']}", variable["allValue"])
        answered += bool((await ask(stack, "query", query=query))["result"])
    assert answered > len(dashboard["panels"]) / 2  # the rest is of what has not happened


async def test_the_profile_is_whole_and_grafana_is_reached_from_this_machine_alone(stack: Stack) -> None:
    told = await stack.compose("--profile", "observability", "config", "--format", "json", check=False)
    grafana = json.loads(told[told.index("{") :])["services"]["grafana"]
    assert {port["host_ip"] for port in grafana["ports"]} == {"127.0.0.1"}
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == stack.settings["KGL_GRAFANA_PASSWORD"]
    mounted = [Path(volume["source"]) for volume in grafana["volumes"] if volume["type"] == "bind"]
    assert len(mounted) == 2
    assert all(list(folder.iterdir()) for folder in mounted)


async def test_outside_of_development_grafana_has_no_port(stack: Stack) -> None:
    told = await stack.compose(
        *("--file", "docker-compose.yml", "--profile", "observability", "config", "--format", "json"), check=False
    )
    services = json.loads(told[told.index("{") :])["services"]
    assert {name for name, service in services.items() if service.get("ports")} == {"edge"}
