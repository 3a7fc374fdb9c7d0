"""`kgl setup objects`: what each service may do, and one line for what an operator has to mend."""

import socket

import pytest
from typer.testing import CliRunner

from kgl_cli.main import app
from kgl_cli.setup.objects_users import policy_of, user_of

ENVIRONMENT = {
    "KGL_S3_URL": "http://127.0.0.1:1",
    "KGL_S3_ADMIN_USER": "admin",
    "KGL_S3_ADMIN_PASSWORD": "secret",
    "KGL_S3_SECRET_KEY_INGEST": "ingest-secret",
    "KGL_S3_SECRET_KEY_GRAPH": "graph-secret",
    "KGL_S3_SECRET_KEY_CONTENT": "content-secret",
}


def rights(service: str, prefix: str = "") -> dict[str, set[str]]:
    statements = policy_of(service, "b", prefix)["Statement"]
    return {each["Resource"][0].removeprefix("arn:aws:s3:::"): set(each["Action"]) for each in statements}


def test_ingest_and_graph_write_and_delete_their_own_and_content_only_reads() -> None:
    for service, own in (("ingest", {"b/ingest/*"}), ("graph", {"b/graph/*"}), ("content", set())):
        for action in ("s3:DeleteObject", "s3:PutObject"):
            assert {keys for keys, actions in rights(service).items() if action in actions} == own
        assert "s3:ListBucket" in rights(service)["b"]
    assert rights("graph")["b/ingest/*/chunks/*"] == {"s3:GetObject"}
    assert set(rights("content")) == {"b", "b/graph/*/results/*"}


def test_a_prefix_stands_before_keys_and_names() -> None:
    assert set(rights("ingest", "team/a")) == {"b", "b/team/a/ingest/*"}
    assert (user_of("ingest", ""), user_of("ingest", "team/a")) == ("ingest", "team-a-ingest")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"KGL_S3_ADMIN_PASSWORD": None}, "set KGL_S3_ADMIN_PASSWORD or KGL_S3_ADMIN_PASSWORD_FILE"),
        ({"KGL_S3_SECRET_KEY_GRAPH": "short"}, "KGL_S3_SECRET_KEY_GRAPH: "),
        ({"KGL_S3_BUCKET": "No Bucket"}, "KGL_S3_BUCKET: "),
        ({"KGL_S3_PREFIX": "a b"}, "KGL_S3_PREFIX takes"),
        ({"KGL_S3_URL": "minio"}, "set KGL_S3_URL to"),
        ({}, "KGL_S3_URL: The object store cannot be reached"),
    ],
)
def test_what_has_to_be_mended_is_one_line(changed: dict[str, str | None], said: str) -> None:
    with socket.socket() as taken:  # bound and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        environment = {**ENVIRONMENT, "KGL_S3_URL": url, **changed}
        result = CliRunner().invoke(app, ["setup", "objects"], env=environment)
    assert result.exit_code == 1
    assert result.output.startswith(said)
    assert len(result.output.splitlines()) == 1
