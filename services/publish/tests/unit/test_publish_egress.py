"""The guarded client: what it refuses, it never connects to."""

import ipaddress
from collections.abc import Sequence

import httpx
import pytest

from kgl_publish.domain.addresses import UrlRefused, is_public, target_of
from kgl_publish.stores.egress import Egress, SendImpossible, SendUnknown


class Connector(httpx.AsyncBaseTransport):
    """Notes each request instead of connecting."""

    def __init__(self, error: Exception | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.error is not None:
            raise self.error
        return httpx.Response(204, stream=httpx.ByteStream(b""))


def resolving_to(*addresses: str) -> object:
    async def resolve(_host: str, _port: int) -> Sequence[str]:
        if not addresses:
            raise OSError("unknown host")
        return addresses

    return resolve


def egress(connector: Connector, *addresses: str, allow: str = "") -> Egress:
    return Egress(allow=allow, resolver=resolving_to(*addresses), transport=connector)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1",
        "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
async def test_an_address_that_is_not_public_is_never_connected_to(address: str) -> None:
    connector = Connector()
    with pytest.raises(UrlRefused, match="not public"):
        await egress(connector, address).post("https://example.com/x", b"{}", {})
    assert connector.requests == []
    assert not is_public(ipaddress.ip_address(address))


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    connector = Connector()
    with pytest.raises(UrlRefused):
        await egress(connector, "93.184.216.34", "10.0.0.1").post("https://example.com/", b"", {})
    assert connector.requests == []


async def test_the_checked_address_is_the_one_that_is_connected_to() -> None:
    connector = Connector()
    answer = await egress(connector, "93.184.216.34").post("https://example.com/x?y=1", b"{}", {"a": "b"})
    (request,) = connector.requests
    assert answer.status == 204
    assert (request.url.host, request.url.path, request.headers["host"]) == ("93.184.216.34", "/x", "example.com")
    assert request.extensions["sni_hostname"] == "example.com"


async def test_only_the_listed_host_and_port_are_excepted() -> None:
    connector = Connector()
    client = egress(connector, "127.0.0.1", allow="127.0.0.1:8099")
    assert (await client.post("http://127.0.0.1:8099/x", b"", {})).status == 204
    with pytest.raises(UrlRefused):
        await client.post("http://127.0.0.1:8098/x", b"", {})
    assert len(connector.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com", "file:///etc/passwd", "http://user@example.com/", "http://example.com:22/", "http://",
        "http://exa mple.com/", "http://example.com\\@evil.com/", "http://ex\nample.com", "http://éxample.com/",
        "http://example.com:99999/", "//example.com",
    ],
)  # fmt: skip
def test_an_ambiguous_url_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        target_of(url)


async def test_what_was_not_sent_and_what_was_not_answered_are_told_apart() -> None:
    for error, expected in (
        (httpx.ConnectError("refused"), SendImpossible),
        (httpx.ReadTimeout("late"), SendUnknown),
        (httpx.RemoteProtocolError("reset"), SendUnknown),
    ):
        with pytest.raises(expected):
            await egress(Connector(error), "93.184.216.34").post("https://example.com/", b"", {})
    with pytest.raises(SendImpossible, match="not known"):
        await egress(Connector()).post("https://example.com/", b"", {})
