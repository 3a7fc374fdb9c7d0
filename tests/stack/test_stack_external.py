"""Servers of somebody else, by settings: Postgres, Kafka and S3 over TLS with an authority of their own.

The official image of Postgres is not built with TLS everywhere, so a front of ours speaks it before the server;
Kafka and MinIO end it themselves. On each server there are others: a prefix, and a bucket that is there already.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx
import pytest

from kgl_cli.home import free_port
from kgl_contracts.rights import SERVICES
from kgl_servicekit.objects.s3_connection import S3Connection
from kgl_servicekit.testing.kafka_broker import ADMIN_PASSWORD, ENVIRONMENT, kafka_broker
from kgl_servicekit.testing.polling import eventually
from kgl_servicekit.testing.tls import Authority, tls_front
from tests.stack.harness import Stack

POSTGRES, MINIO = "postgres:18", "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z"
PASSWORD = "long-enough-for-all"
Environment = Mapping[str, str]
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("certificates")
    folder.chmod(0o755)
    return Authority.new(folder)


@pytest.fixture(scope="module")
def stranger(authority: Authority) -> Authority:
    """An authority that has signed nothing."""
    return Authority.new(authority.folder, "stranger")


@contextmanager
def container(image: str, *arguments: str, command: tuple[str, ...] = ()) -> Iterator[str]:
    """A container that is gone in the end; its name."""
    name = f"kgl-test-external-{uuid4().hex[:8]}"
    docker("run", "--detach", "--name", name, *arguments, image, *command)
    try:
        yield name
    finally:
        docker("rm", "--force", "--volumes", name)


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
async def postgres_settings(authority: Authority) -> AsyncIterator[Environment]:
    port = free_port()
    with container(POSTGRES, f"--publish=127.0.0.1:{port}:5432", f"--env=POSTGRES_PASSWORD={PASSWORD}"):
        await eventually(lambda: logs_in(port), within=60, every=0.5, what="Postgres does not answer")
        async with tls_front("127.0.0.1", port, authority.sign("localhost")) as front:
            options = f"?sslmode=verify-full&sslrootcert={authority.ca}"
            urls = {
                "KGL_POSTGRES_URL": f"postgresql://postgres:{PASSWORD}@localhost:{front}/postgres{options}",
                "KGL_DATABASE_URL": f"postgresql://kgl_ingest:{PASSWORD}@localhost:{front}/kgl_ingest{options}",
                "KGL_DATABASE_OWNER_URL": f"postgresql://kgl_ingest_owner:{PASSWORD}@localhost:{front}/kgl_ingest{options}",
            }
            passwords = {f"KGL_DB_{name.upper()}_PASSWORD": PASSWORD for name in SERVICES}
            owners = {f"KGL_DB_{name.upper()}_OWNER_PASSWORD": PASSWORD for name in SERVICES}
            yield {**urls, **passwords, **owners, "KGL_VECTORS": "weaviate"}


async def logs_in(port: int) -> bool:
    try:
        connection = await asyncpg.connect(f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres", timeout=2)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True


@pytest.fixture(scope="module")
def kafka_settings(authority: Authority) -> Iterator[Environment]:
    certificate, key = authority.sign("localhost")
    (authority.folder / "broker.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
    encrypted = ",".join(f"{listener}:SASL_SSL" for listener in ("CLIENT", "HOST", "ADMIN"))
    tls = {
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": f"CONTROLLER:SASL_PLAINTEXT,{encrypted}",
        "KAFKA_SSL_KEYSTORE_TYPE": "PEM",
        "KAFKA_SSL_KEYSTORE_LOCATION": "/certificates/broker.pem",
        "KAFKA_SSL_TRUSTSTORE_TYPE": "PEM",
        "KAFKA_SSL_TRUSTSTORE_LOCATION": f"/certificates/{authority.ca.name}",
    }
    given = [f"--volume={authority.folder}:/certificates:ro", *(f"--env={name}={value}" for name, value in tls.items())]
    with kafka_broker(given, authority.ca) as broker:
        yield {
            "KGL_BUS": "kafka",
            "KGL_KAFKA_BOOTSTRAP": broker.clients,
            "KGL_KAFKA_PREFIX": "lab.",
            "KGL_KAFKA_CA": str(authority.ca),
            "KGL_KAFKA_USER": "lab.ingest",
            "KGL_KAFKA_PASSWORD": PASSWORD,
            "KGL_KAFKA_ADMIN_BOOTSTRAP": broker.admin,
            "KGL_KAFKA_ADMIN_PASSWORD": ADMIN_PASSWORD,
            "KGL_KAFKA_TOPICS": str(ENVIRONMENT.with_name("topics.yaml")),
            **{f"KGL_KAFKA_PASSWORD_{name.upper()}": PASSWORD for name in SERVICES},
        }


@pytest.fixture(scope="module")
async def s3_settings(authority: Authority) -> AsyncIterator[Environment]:
    certificate, key = authority.sign("localhost", "127.0.0.1")
    port, url = free_port(), ""
    mounts = [f"--volume={certificate}:/certs/public.crt:ro", f"--volume={key}:/certs/private.key:ro"]
    login = ["--env=MINIO_ROOT_USER=admin", f"--env=MINIO_ROOT_PASSWORD={PASSWORD}"]
    command = ("server", "/data", "--certs-dir", "/certs")
    with container(MINIO, f"--publish=127.0.0.1:{port}:9000", *mounts, *login, command=command):
        url = f"https://localhost:{port}"
        bucket = S3Connection(
            url=url,
            bucket="shared",
            access_key="admin",
            secret_key=PASSWORD,
            region="us-east-1",
            public=url,
            ca=authority.ca,
        )
        await eventually(lambda: makes(bucket), within=60, every=0.5, what="MinIO does not answer")
        await bucket.close()
        yield {
            "KGL_OBJECT_STORE": "s3",
            "KGL_S3_URL": url,
            "KGL_S3_BUCKET": "shared",
            "KGL_S3_PREFIX": "lab/files",
            "KGL_S3_CA": str(authority.ca),
            "KGL_S3_ACCESS_KEY": "lab-files-ingest",
            "KGL_S3_SECRET_KEY": PASSWORD,
            "KGL_S3_ADMIN_USER": "admin",
            "KGL_S3_ADMIN_PASSWORD": PASSWORD,
            **{f"KGL_S3_SECRET_KEY_{name}": PASSWORD for name in ("INGEST", "GRAPH", "CONTENT")},
        }


async def makes(bucket: S3Connection) -> bool:
    try:
        await bucket.request("PUT")
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
async def external(
    postgres_settings: Environment, kafka_settings: Environment, s3_settings: Environment
) -> Environment:
    """All settings of ingest on servers that were prepared by the jobs of the operator."""
    settings = {"KGL_ENV": "production", **postgres_settings, **kafka_settings, **s3_settings}
    for job in ("databases", "kafka", "objects"):
        code, words = await said(settings, "kgl_cli.main", "setup", job)
        assert code == 0, words
    code, words = await said(settings, "kgl_ingest", "migrate")
    assert code == 0, words
    return settings


async def started(settings: Environment, module: str, *arguments: str) -> asyncio.subprocess.Process:
    known = {name: value for name, value in os.environ.items() if not name.startswith("KGL_")}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        env={**known, **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def said(settings: Environment, module: str, *arguments: str) -> tuple[int | None, str]:
    """How a process ended by itself, and what it said."""
    process = await started(settings, module, *arguments)
    try:
        async with asyncio.timeout(60):
            words, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, words.decode()


@asynccontextmanager
async def running(settings: Environment, role: str) -> AsyncIterator[str]:
    """A process of ingest that says that all it needs is there; where it answers."""
    port = free_port()
    process = await started({**settings, "KGL_LOG_LEVEL": "ERROR"}, "kgl_ingest", role, "--port", str(port))

    async def ready() -> bool:
        assert process.returncode is None, process
        async with httpx.AsyncClient(trust_env=False) as client:
            try:
                answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
            except httpx.TransportError:
                return False
        return answer.status_code == 200

    try:
        await eventually(ready, within=60, every=0.2, what="not ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def test_a_service_works_with_servers_that_prove_who_they_are(external: Environment) -> None:
    async with running(external, "api"), running(external, "worker") as url, httpx.AsyncClient() as client:
        told = (await client.get(f"{url}/health/ready")).json()
    assert {name: state["up"] for name, state in told["dependencies"].items()} == {
        "database": True,
        "bus": True,
        "progress": True,
        "objects": True,
    }


@pytest.mark.parametrize(
    ("role", "setting", "line"),
    [
        ("api", "KGL_DATABASE_URL", "KGL_DATABASE_URL: the certificate of its server is not trusted"),
        ("api", "KGL_S3_CA", "KGL_S3_CA does not vouch for the certificate of KGL_S3_URL"),
        ("worker", "KGL_DATABASE_URL", "KGL_DATABASE_URL: the certificate of its server is not trusted"),
        ("worker", "KGL_KAFKA_CA", "KGL_KAFKA_CA does not vouch for the certificate of localhost"),
        ("worker", "KGL_S3_CA", "KGL_S3_CA does not vouch for the certificate of KGL_S3_URL"),
    ],
)
async def test_a_server_whose_certificate_is_of_nobody_we_trust_ends_the_start_with_one_line(
    external: Environment, authority: Authority, stranger: Authority, role: str, setting: str, line: str
) -> None:
    changed = {**external, setting: external[setting].replace(str(authority.ca), str(stranger.ca))}
    code, words = await said(changed, "kgl_ingest", role)
    assert code == 1
    assert [each for each in words.splitlines() if not each.startswith("{")] == [words.splitlines()[-1]], words
    assert words.splitlines()[-1].startswith(line), words


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ("KGL_DATABASE_URL", "KGL_DATABASE_URL: what sslrootcert in it names is no file of certificates"),
        ("KGL_KAFKA_CA", "KGL_KAFKA_CA names no file of certificates"),
        ("KGL_S3_CA", "KGL_S3_CA names no file of certificates"),
    ],
)
async def test_certificates_that_are_not_there_are_told_too(
    external: Environment, authority: Authority, setting: str, line: str
) -> None:
    changed = {**external, setting: external[setting].replace(str(authority.ca), "/nowhere/ca.crt")}
    code, words = await said(changed, "kgl_ingest", "worker")
    assert code == 1
    assert words.splitlines()[-1].startswith(line), words
    assert "Traceback" not in words


@pytest.mark.parametrize(
    ("job", "setting", "line"),
    [
        ("databases", "KGL_POSTGRES_URL", "KGL_POSTGRES_URL: the certificate of its server is not trusted"),
        ("kafka", "KGL_KAFKA_CA", "KGL_KAFKA_CA does not vouch"),
        ("objects", "KGL_S3_CA", "KGL_S3_CA does not vouch"),
    ],
)
async def test_the_jobs_before_the_start_say_the_same(
    external: Environment, authority: Authority, stranger: Authority, job: str, setting: str, line: str
) -> None:
    changed = {**external, setting: external[setting].replace(str(authority.ca), str(stranger.ca))}
    code, words = await said(changed, "kgl_cli.main", "setup", job)
    assert code != 0
    assert line in words
    assert "Traceback" not in words


async def test_a_server_that_has_the_name_of_another_is_not_trusted(external: Environment) -> None:
    changed = {**external, "KGL_DATABASE_URL": external["KGL_DATABASE_URL"].replace("@localhost:", "@127.0.0.1:")}
    code, words = await said(changed, "kgl_ingest", "worker")
    assert code == 1
    assert "is not valid for '127.0.0.1'" in words.splitlines()[-1], words


async def test_the_compose_file_passes_on_what_reaches_servers_of_others_and_leaves_ours_out(
    stack: Stack, tmp_path: Path
) -> None:
    settings = {
        **{f"KGL_OWN_{name}": "0" for name in ("POSTGRES", "KAFKA", "MINIO", "WEAVIATE", "KEYCLOAK")},
        "KGL_DATA_INTERNAL": "false",
        "KGL_POSTGRES_HOST": "db.example:5432",
        "KGL_POSTGRES_OPTIONS": "?sslmode=verify-full&sslrootcert=/etc/kgl/certificates/ca.crt",
        "KGL_KAFKA_PREFIX": "lab.",
        "KGL_KAFKA_CA": "/etc/kgl/certificates/ca.crt",
        "KGL_S3_PREFIX": "lab",
        "KGL_S3_ACCESS_KEY_INGEST": "lab-ingest",
    }
    own = "".join(f"{name}={value}\n" for name, value in {**stack.settings, **settings}.items())
    (tmp_path / "env").write_text(own)
    told = json.loads(docker("compose", "--env-file", str(tmp_path / "env"), "config", "--format", "json"))
    services = told["services"]
    assert {name for name, service in services.items() if service.get("scale") == 0} == {
        "postgres",
        "kafka",
        "minio",
        "weaviate",
        "keycloak",
    }
    assert not told["networks"]["data"].get("internal")
    worker, job = services["ingest-worker"]["environment"], services["setup-objects"]["environment"]
    assert worker["KGL_DATABASE_URL"].endswith(f"@db.example:5432/kgl_ingest{settings['KGL_POSTGRES_OPTIONS']}")
    assert services["keycloak"]["environment"]["KC_DB_URL"].endswith(settings["KGL_POSTGRES_OPTIONS"])
    assert (worker["KGL_KAFKA_USER"], worker["KGL_S3_ACCESS_KEY"]) == ("lab.ingest", "lab-ingest")
    assert services["setup-kafka"]["environment"]["KGL_KAFKA_CA"] == worker["KGL_KAFKA_CA"] == settings["KGL_KAFKA_CA"]
    assert job["KGL_S3_PREFIX"] == worker["KGL_S3_PREFIX"] == "lab"
    for name in ("ingest-worker", "ingest-migrate", "setup-kafka", "setup-databases", "keycloak"):
        targets = [volume["target"] for volume in services[name]["volumes"]]
        assert "/etc/kgl/certificates" in targets, name
