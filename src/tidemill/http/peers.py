"""Who may connect: beyond this machine, without TLS, only the proxies that end it."""

from __future__ import annotations

from tidemill.http.exchange import Exchange
from tidemill.security.bind_policy import BindPolicy


def accepts_peer(policy: BindPolicy, exchange: Exchange) -> bool:
    """Tell whether the peer of a request may speak to this process."""
    client = exchange.scope.get("client")
    return client is not None and policy.accepts(client[0])
