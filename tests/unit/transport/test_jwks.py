"""Only the address that was set is asked, once, for a bounded time and size; whatever it answers leads nowhere else."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.support.security.key_servers import key_server, response
from tidemill.domain.errors import Unavailable, UsageError
from tidemill.transport.jwks import JwksAddress, JwksFile


async def asked(url: str, **options: Any) -> bytes:
    """Ask an address once."""
    address = JwksAddress(url, **options)
    try:
        return await address.key_set()
    finally:
        await address.close()


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
async def test_no_redirect_is_followed(status: str) -> None:
    async with key_server(response(b"{}")) as inner:
        redirect = response(b"", status, f"Location: {inner.url}")
        async with key_server(redirect) as outer:
            with pytest.raises(Unavailable, match=f"answered {status[:3]}"):
                await asked(outer.url)
        assert (len(outer.requests), inner.requests) == (1, [])


@pytest.mark.parametrize("status", ["204 No Content", "401 Unauthorized", "404 Not Found", "500 Broken"])
async def test_only_an_answer_with_200_counts(status: str) -> None:
    async with key_server(response(b"{}", status)) as server:
        with pytest.raises(Unavailable, match=f"answered {status[:3]}"):
            await asked(server.url)


async def test_neither_a_proxy_nor_a_password_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with key_server(response(b"{}")) as server, key_server(response(b"{}")) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login olga password c4n4ry\n")
        monkeypatch.setenv("NETRC", str(netrc))
        assert await asked(server.url) == b"{}"
        assert proxy.requests == []
        assert b"uthorization" not in server.requests[0]
        assert server.requests[0].startswith(b"GET /keys HTTP/1.1\r\n")


async def test_a_silent_server_is_given_up() -> None:
    async with key_server(None) as server:
        with pytest.raises(Unavailable, match=r"no answer within 0\.05 s"):
            await asked(server.url, deadline_s=0.05)


async def test_an_answer_without_end_is_given_up_by_its_size() -> None:
    endless = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"x" * 5_000_000
    async with key_server(endless) as server:
        with pytest.raises(Unavailable, match="more than 1000 bytes"):
            await asked(server.url, max_bytes=1_000)


async def test_a_packed_answer_is_not_unpacked() -> None:
    packed = gzip.compress(b"x" * 1_000_000)
    async with key_server(response(packed, "200 OK", "Content-Encoding: gzip")) as server:
        assert await asked(server.url) == packed
        assert b"accept-encoding: identity" in server.requests[0].lower()


@pytest.mark.parametrize(
    "answer", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_a_broken_answer_is_none(answer: bytes) -> None:
    async with key_server(answer) as server:
        with pytest.raises(Unavailable):
            await asked(server.url)


def test_a_file_without_certificates_is_named_at_start(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    with pytest.raises(UsageError, match="TIDEMILL_JWT_CA_FILE"):
        JwksAddress("https://issuer.test/keys", ca_file=tmp_path / "ca.pem")


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be read"):
        await JwksFile(tmp_path).key_set()
