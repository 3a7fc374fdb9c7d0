"""`make test-stack`: start the compose system under a name of its own, run the tests that need it, take it down.

What the servers are is asked of each and printed in the end. `--bench` and `--faults` measure it, or break it, instead.
`--keep` leaves the system running, and a second run uses it; KGL_TEST_PROJECT and KGL_TEST_STACK (its folder) name
another one beside it.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
from rich.console import Console

from benchmarks.__main__ import STACK_PARTS
from kgl_cli.home import Home, free_port
from kgl_cli.stack import docker, environment
from kgl_cli.stack.docker import Compose
from kgl_cli.stack.run import up

ROOT = Path(__file__).parent.parent
PROJECT = os.environ.get("KGL_TEST_PROJECT", "kgl-test")
SUITES = (
    "tests/stack",
    "libs/servicekit/tests/contract",
    "services/graph/tests/contract",
)


def main() -> int:
    """0 when the system started and every test passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the system running")
    parser.add_argument("--no-build", action="store_true", help="of the images that are there")
    parser.add_argument("--again", action="store_true", help="run tests that failed once more, alone, before it counts")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--bench", action="store_true", help="measure instead of testing")
    instead.add_argument("--faults", action="store_true", help="break it under load, and check what it has done")
    parser.add_argument("tests", nargs="*", help="files or options for pytest, parts to measure, or classes of faults")
    asked, options = parser.parse_known_args()
    folder = Path(os.environ.get("KGL_TEST_STACK", ROOT / "build" / "test-stack")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"KGL_ENV_FILE": str(folder / "env"), "KGL_HOME": str(folder), "KGL_PROJECT": PROJECT}
    if asked.bench or asked.faults:  # one client is to ask as fast as it can
        os.environ |= {"KGL_EDGE_RATE": "100000", "KGL_RATE_LIMIT_PER_MINUTE": "10000000"}
    if not (folder / "env").exists():
        for name in ("KGL_PORT", "KGL_KAFKA_HOST_PORT", "KGL_PROMETHEUS_PORT", "KGL_MAIL_PORT"):
            os.environ[name] = str(free_port())
    compose = Compose(folder / "env")
    console = Console()
    begun = time.monotonic()
    try:
        if status := asyncio.run(up(Home(folder), ROOT, console, build=not asked.no_build)):
            return status
        print(f"stack: started in {time.monotonic() - begun:.0f} s, images included", flush=True)
        os.environ["KGL_TEST_SERVERS"] = str(folder / "servers.json")
        write_servers()
        if asked.bench:
            return _python("benchmarks", *(asked.tests or STACK_PARTS))
        if asked.faults:
            return _python("tests.faults.stack", *(("--classes", *asked.tests) if asked.tests else ()), *options)
        tests = ["pytest", "-q", "--timeout", "300", *(asked.tests or SUITES), *options]
        status = _python(*tests)
        if status == 1 and asked.again:
            print("stack: what failed is run once more, alone", flush=True)
            status = _python(*tests, "--last-failed")
        _tell_versions(json.loads((folder / "servers.json").read_text()), console)
        return status
    finally:
        if not asked.keep:
            compose.run("down", "--volumes", "--remove-orphans")
            (folder / "env").unlink(missing_ok=True)


def _python(*module: str) -> int:
    """Exit status of a module with its arguments."""
    return subprocess.run([sys.executable, "-m", *module], cwd=ROOT, check=False).returncode


def write_servers() -> None:
    """Write to KGL_TEST_SERVERS where the servers of the running system are; anew after each start."""
    servers = _servers(environment.read(Path(os.environ["KGL_ENV_FILE"])))
    Path(os.environ["KGL_TEST_SERVERS"]).write_text(json.dumps(servers, indent=2))


def _servers(settings: dict[str, str]) -> dict[str, object]:
    """Where tests reach the servers: by the addresses of their containers, and Kafka by its listener on this host."""
    return {
        "postgres": {
            "url": f"postgresql://postgres:{settings['KGL_POSTGRES_PASSWORD']}@{_address('postgres')}:5432/postgres"
        },
        "kafka": {
            "url": f"localhost:{settings.get('KGL_KAFKA_HOST_PORT', '9094')}",
            "user": "admin",
            "password": settings["KGL_KAFKA_ADMIN_PASSWORD"],
        },
        "kafka_mechanism": "SCRAM-SHA-512",
        "s3": {
            "url": f"http://{_address('minio')}:9000",
            "user": "admin",
            "password": settings["KGL_S3_ADMIN_PASSWORD"],
        },
        "weaviate": {"url": f"http://{_address('weaviate')}:8080", "password": settings["KGL_WEAVIATE_API_KEY"]},
        "weaviate_grpc": f"{_address('weaviate')}:50051",
        "keycloak": {
            "url": f"http://{_address('keycloak')}:8080",
            "user": "admin",
            "password": settings["KGL_KEYCLOAK_ADMIN_PASSWORD"],
        },
    }


def _address(service: str) -> str:
    networks = json.loads(
        docker.ask("inspect", "--format", "{{json .NetworkSettings.Networks}}", f"{PROJECT}-{service}-1")
    )
    found: str = networks[f"{PROJECT}_data"]["IPAddress"]
    return found


def _tell_versions(servers: dict[str, dict[str, str]], console: Console) -> None:
    """Ask each server what it is."""
    weaviate = httpx.get(
        f"{servers['weaviate']['url']}/v1/meta",
        headers={"Authorization": f"Bearer {servers['weaviate']['password']}"},
        timeout=10,
    ).json()
    told = {
        "Postgres": _inside("postgres", "postgres", "--version"),
        "Kafka": _inside("kafka", "/opt/kafka/bin/kafka-topics.sh", "--version"),
        "Keycloak": _inside("keycloak", "sh", "-c", "/opt/keycloak/bin/kc.sh --version | grep Keycloak"),
        "MinIO": _inside("minio", "minio", "--version"),
        "Weaviate": weaviate["version"],
        "nginx": _inside("edge", "sh", "-c", "nginx -v 2>&1"),
        "Prometheus": _inside("prometheus", "prometheus", "--version"),
    }
    console.print("servers that these tests talked to:")
    for name, version in told.items():
        console.print(f"  {name:<11}{version}", markup=False, highlight=False)


def _inside(service: str, *command: str) -> str:
    answer = docker.ask("exec", f"{PROJECT}-{service}-1", *command)
    return answer.splitlines()[0] if answer else "?"


if __name__ == "__main__":
    sys.exit(main())
