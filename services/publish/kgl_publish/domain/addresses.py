"""Which addresses outgoing requests may reach: the public internet, and nothing of ours.

The list is our own, because `ipaddress.is_global` calls multicast, NAT64 and 6to4 global on some versions.
"""

import ipaddress
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_REFUSED_4 = [
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
]
_PUBLIC_6 = ipaddress.ip_network("2000::/3")
_REFUSED_6 = [ipaddress.ip_network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]


class UrlRefused(ValueError):
    """The URL may not be reached; the sentence says what to do."""


def target_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL; raises UrlRefused for one that is ambiguous or of no use."""
    if any(character <= " " or character in "\\\x7f" for character in url):
        raise UrlRefused("The URL holds white space or a backslash; write it out plainly.")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as wrong:
        raise UrlRefused("This is no URL; send one such as https://example.com/webhooks.") from wrong
    if parts.scheme not in {"http", "https"} or not host or not host.isascii():
        raise UrlRefused("Send an http or https URL with an ASCII host name.")
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        raise UrlRefused("The URL may not hold credentials.")
    port = port if port is not None else (443 if parts.scheme == "https" else 80)
    if port not in {80, 443} and port < 1024:
        raise UrlRefused("Use port 80, 443, or one from 1024 on.")
    return parts.scheme, host, port


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet, and leads nowhere else."""
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in net for net in _REFUSED_4)
    return address in _PUBLIC_6 and not any(address in net for net in _REFUSED_6)
