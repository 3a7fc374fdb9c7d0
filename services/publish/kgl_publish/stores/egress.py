"""The one client of all outgoing requests: it resolves, checks and pins the address by itself."""

import asyncio
import ipaddress
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from kgl_publish.domain.addresses import UrlRefused, is_public, target_of

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
_ANSWER = 64 * 1024


class SendUnknown(Exception):
    """The request went out, and no answer came: the receiver may have acted on it."""


class SendImpossible(Exception):
    """Nothing was sent: the receiver cannot be reached."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The receiver's answer, the beginning of its body, and how long it took."""

    status: int
    body: bytes
    milliseconds: int


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class Egress:
    """Sends to public addresses, and to `allow` ("host:port,...") besides. No redirects, proxies or cookies."""

    def __init__(
        self,
        *,
        allow: str = "",
        timeout: float = 10.0,
        resolver: Resolve = resolve,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._allow = {entry.strip().lower() for entry in allow.split(",") if entry.strip()}
        self._timeout = timeout
        self._resolver = resolver
        self._client = httpx.AsyncClient(transport=transport, timeout=timeout, follow_redirects=False, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def check(self, url: str) -> str:
        """The address that the URL leads to; raises UrlRefused, SendImpossible."""
        _, host, port = target_of(url)
        try:
            addresses = await self._resolver(host, port)
        except OSError as unknown:
            raise SendImpossible(f"the host {host} is not known") from unknown
        if f"{host}:{port}".lower() not in self._allow:
            for address in addresses:
                if not is_public(ipaddress.ip_address(address)):
                    raise UrlRefused(
                        "The URL leads to an address that is not public; use a public one, or (in development) "
                        "list host:port in KGL_EGRESS_ALLOW."
                    )
        if not addresses:
            raise SendImpossible(f"the host {host} has no address")
        return addresses[0]

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answered:
        """POST to the checked, pinned address; raises UrlRefused, SendImpossible, SendUnknown."""
        address = await self.check(url)
        scheme, host, port = target_of(url)
        literal = f"[{address}]" if ":" in address else address
        pinned = httpx.URL(url).copy_with(host=literal, port=port)
        default = port == (443 if scheme == "https" else 80)
        named = {**headers, "Host": host if default else f"{host}:{port}"}
        begun = time.monotonic()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(
                    "POST", pinned, content=body, headers=named, extensions={"sni_hostname": host}
                ) as answer,
            ):
                content = b""
                async for block in answer.aiter_raw():
                    content += block
                    if len(content) >= _ANSWER:
                        break
                return Answered(answer.status_code, content[:_ANSWER], round((time.monotonic() - begun) * 1000))
        except (httpx.ConnectError, httpx.ConnectTimeout) as unreached:
            raise SendImpossible(f"{type(unreached).__name__}: {unreached}"[:300]) from unreached
        except (httpx.TransportError, TimeoutError) as lost:
            raise SendUnknown(f"{type(lost).__name__}: {lost}"[:300]) from lost
