"""Beyond this machine it listens only encrypted, or behind a proxy; only on this one it has a development principal."""

from __future__ import annotations

import pytest

from tidemill.domain.errors import UsageError
from tidemill.security.bind_policy import bind_policy, names_this_machine

LOCAL = ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost", "LOCALHOST", "::ffff:127.0.0.1"]
ELSEWHERE = [
    "0.0.0.0",
    "::",
    "10.0.0.7",
    "192.168.1.1",
    "db.example",
    "",
    "localhost.example",
    "::ffff:10.0.0.7",
]
PROXY = ("10.1.0.0/24", "fd00::/64")


@pytest.mark.parametrize("host", LOCAL)
@pytest.mark.parametrize("tls", [True, False])
def test_on_loopback_it_may_always_listen_and_there_is_a_development_principal(host: str, tls: bool) -> None:
    policy = bind_policy(host, tls=tls)
    assert policy.allows_development
    assert not policy.is_open


@pytest.mark.parametrize("host", LOCAL)
def test_behind_a_proxy_there_is_no_development_principal(host: str) -> None:
    assert not bind_policy(host, tls=False, trusted_proxies=PROXY).allows_development


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere_in_plain_text_it_does_not_start_and_says_what_to_set(host: str) -> None:
    with pytest.raises(UsageError) as caught:
        bind_policy(host, tls=False)
    for name in ("CERT_FILE", "KEY_FILE", "TRUSTED_PROXIES", "HOST=127.0.0.1"):
        assert f"TIDEMILL_HTTP_{name}" in str(caught.value)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere_it_starts_encrypted_or_behind_a_proxy_without_a_development_principal(host: str) -> None:
    assert not bind_policy(host, tls=True).allows_development
    assert not bind_policy(host, tls=False, trusted_proxies=PROXY).allows_development


def test_in_plain_text_only_the_proxies_and_this_machine_may_speak_to_it() -> None:
    policy = bind_policy("0.0.0.0", tls=False, trusted_proxies=PROXY)
    peers = [
        "10.1.0.9",
        "::ffff:10.1.0.9",
        "fd00::7",
        "127.0.0.1",
        "10.1.1.9",
        "fd01::7",
        "8.8.8.8",
        "",
        "unix",
    ]
    assert [policy.accepts(peer) for peer in peers] == [True, True, True, True, *[False] * 5]
    assert [policy.is_proxy(peer) for peer in peers] == [True, True, True, False, *[False] * 5]
    assert bind_policy("0.0.0.0", tls=True).accepts("8.8.8.8")


@pytest.mark.parametrize("network", ["0.0.0.0/0", "::/0", "10.1.0.1/24", "proxy.example", "", "10.1.0.0/33"])
def test_a_network_of_everybody_or_of_nobody_is_refused(network: str) -> None:
    with pytest.raises(UsageError, match="TIDEMILL_HTTP_TRUSTED_PROXIES"):
        bind_policy("0.0.0.0", tls=False, trusted_proxies=[network])


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("localhost", True),
        ("LocalHost:8080", True),
        ("127.0.0.1:80", True),
        ("[::1]", True),
        ("[::1]:8080", True),
        ("::1", True),
        (None, False),
        ("", False),
        ("evil.example", False),
        ("localhost.evil.example:80", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example:127.0.0.1", False),
        ("localhost:evil", False),
        ("10.0.0.1", False),
    ],
)
def test_a_name_that_anybody_may_let_point_here_is_not_this_machines(host: str | None, local: bool) -> None:
    assert names_this_machine(host) is local
