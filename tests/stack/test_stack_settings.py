"""What a process says at its start of a setting that is wrong: one line that names it, and no trace."""

import pytest

from tests.stack.harness import Stack


@pytest.mark.parametrize(
    ("service", "changed", "line"),
    [
        (
            "ingest-api",
            {"KGL_DATABASE_URL": "postgresql://kgl_ingest:wrong@postgres:5432/kgl_ingest"},
            "KGL_DATABASE_URL",
        ),
        ("ingest-api", {"KGL_DATABASE_URL": "postgresql://kgl_ingest:x@nowhere:5432/kgl_ingest"}, "KGL_DATABASE_URL"),
        ("ingest-api", {"KGL_DATABASE_URL": ""}, "KGL_DATABASE_URL"),
        ("ingest-worker", {"KGL_KAFKA_PASSWORD": "wrong"}, "KGL_KAFKA_"),
        ("ingest-worker", {"KGL_KAFKA_PASSWORD": ""}, "KGL_KAFKA_PASSWORD"),
        ("ingest-worker", {"KGL_KAFKA_PREFIX": "other."}, "kgl setup kafka"),
        ("ingest-api", {"KGL_S3_SECRET_KEY": "wrong-secret-key"}, "KGL_S3_"),
        ("ingest-api", {"KGL_S3_BUCKET": "not-there"}, "KGL_S3_BUCKET"),
        ("graph-api", {"KGL_WEAVIATE_API_KEY": "wrong"}, "KGL_WEAVIATE_API_KEY"),
        ("auth-api", {"KGL_KEYCLOAK_REALM": "not-there"}, "KGL_KEYCLOAK_REALM"),
        ("auth-api", {"KGL_KEYCLOAK_CLIENT_SECRET": "wrong"}, "KGL_KEYCLOAK_CLIENT_SECRET"),
        ("content-api", {"KGL_ENV": "production", "KGL_KAFKA_PASSWORD": "kgl"}, "KGL_KAFKA_PASSWORD"),
    ],
)
async def test_a_wrong_setting_ends_the_start_with_a_line_that_names_it(
    stack: Stack, service: str, changed: dict[str, str], line: str
) -> None:
    given = [part for name, value in changed.items() for part in ("--env", f"{name}={value}")]
    role = ["worker"] if service.endswith("-worker") else ["api"]
    said = await stack.compose("run", "--rm", "--no-deps", *given, service, *role, check=False)
    assert line in said, said
    assert "Traceback" not in said, said


@pytest.mark.parametrize(
    ("job", "changed", "line"),
    [
        (
            "setup-databases",
            {"KGL_POSTGRES_URL": "postgresql://postgres:wrong@postgres:5432/postgres"},
            "KGL_POSTGRES_URL",
        ),
        ("setup-databases", {"KGL_POSTGRES_URL": "postgresql://postgres:x@nowhere:5432/postgres"}, "KGL_POSTGRES_URL"),
        ("setup-kafka", {"KGL_KAFKA_ADMIN_PASSWORD": "wrong"}, "KGL_KAFKA_ADMIN"),
        ("setup-objects", {"KGL_S3_ADMIN_PASSWORD": "wrong-password"}, "KGL_S3_ADMIN"),
    ],
)
async def test_a_job_before_the_start_says_which_setting_is_wrong(
    stack: Stack, job: str, changed: dict[str, str], line: str
) -> None:
    given = [part for name, value in changed.items() for part in ("--env", f"{name}={value}")]
    said = await stack.compose("run", "--rm", "--no-deps", *given, job, check=False)
    assert line in said, said
    assert "Traceback" not in said, said
