"""A database whose server has to prove who it is: what is told when it does not."""

import asyncio
from pathlib import Path

import pytest

from kgl_servicekit.database.engine import Database
from kgl_servicekit.settings import NotConfigured
from kgl_servicekit.testing.tls import Authority, tls_front


@pytest.mark.parametrize(
    ("trusted", "host", "told"),
    [
        ("stranger.crt", "localhost", "KGL_DATABASE_URL: the certificate of its server is not trusted: "),
        ("authority.crt", "127.0.0.1", "IP address mismatch, certificate is not valid for '127.0.0.1'"),
        ("nowhere.crt", "localhost", "KGL_DATABASE_URL: what sslrootcert in it names is no file of certificates"),
        ("authority.crt", "localhost", "KGL_DATABASE_URL: its server cannot be reached: "),
    ],
)
async def test_a_server_that_cannot_prove_who_it_is_is_told_by_the_setting(
    tmp_path: Path, trusted: str, host: str, told: str
) -> None:
    authority = Authority.new(tmp_path)
    Authority.new(tmp_path, "stranger")
    async with asyncio.timeout(20), tls_front("127.0.0.1", 1, authority.sign("localhost")) as port:
        options = f"sslmode=verify-full&sslrootcert={tmp_path / trusted}"
        database = Database(f"postgresql://a:b@{host}:{port}/c?{options}", service="counter")
        with pytest.raises(NotConfigured) as wrong:
            await database.start()
    assert told in str(wrong.value)
