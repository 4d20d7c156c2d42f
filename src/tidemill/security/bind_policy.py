"""Where the HTTP interface may listen: beyond this machine only encrypted, or behind a proxy that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.errors import UsageError

Network = IPv4Network | IPv6Network
_LOCAL_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]", "::1"})


@dataclass(frozen=True)
class BindPolicy:
    """What follows from an address. `allows_development`: without any principal each request is `development`.

    `is_open`: peers outside of this machine are accepted in plain text only from `proxies`.
    """

    allows_development: bool
    is_open: bool
    proxies: tuple[Network, ...] = ()

    def accepts(self, peer: str) -> bool:
        """Tell whether a peer, by its IP address, is served at all."""
        return not self.is_open or self.is_proxy(peer) or is_loopback(peer)

    def is_proxy(self, peer: str) -> bool:
        """Tell whether a peer is a trusted proxy, whose `Forwarded` and `X-Forwarded-*` say the truth."""
        address = _address(peer)
        return address is not None and any(
            address in network for network in self.proxies if network.version == address.version
        )


def bind_policy(host: str, *, tls: bool, trusted_proxies: Sequence[str] = ()) -> BindPolicy:
    """Return what follows from where the interface listens.

    `tls`: whether a certificate is set. `trusted_proxies`: networks such as `10.1.0.0/24`, or single addresses.

    Raises:
        UsageError: it would be reached from elsewhere in plain text, or a network is none.
    """
    proxies = tuple(_network(text) for text in trusted_proxies)
    local = is_loopback(host)
    if not (local or tls or proxies):
        raise UsageError(
            f"TIDEMILL_HTTP_HOST={host}: other machines would reach it in plain text, tokens included",
            code=ErrorCode.PLAIN_TEXT,
        )
    return BindPolicy(
        allows_development=local and not proxies, is_open=not local and not tls, proxies=proxies
    )


def is_loopback(host: str) -> bool:
    """Tell whether an address, or the name `localhost`, can be reached from this machine alone."""
    address = _address(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def names_this_machine(host: str | None) -> bool:
    """Tell whether a request's header `Host` has a name that only this machine has.

    The development principal is for such requests alone: else a page in a browser could act as it, under a name of its
    own that it lets point to this machine.
    """
    return host is not None and _name_of(host) in _LOCAL_NAMES


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address if mapped is None else mapped


def _network(text: str) -> Network:
    try:
        network = ip_network(text.strip())
    except ValueError:
        raise _not_a_network(text) from None
    if network.prefixlen == 0:
        raise _not_a_network(text)
    return network


def _not_a_network(text: str) -> UsageError:
    return UsageError(
        f"TIDEMILL_HTTP_TRUSTED_PROXIES: expected networks such as 10.1.0.0/24, and not every address; not {text!r}"
    )


def _name_of(host: str) -> str:
    name, colon, port = host.strip().lower().rpartition(":")
    return name if colon and port.isdigit() and not name.endswith(":") else host.strip().lower()
