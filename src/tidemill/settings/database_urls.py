"""The database's address: a libpq URL, whose parameters both drivers (asyncpg, and libpq itself) must know."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import SecretStr

_PLACE: Final = {"host", "port", "dbname", "user", "password", "passfile", "service", "target_session_attrs"}
_TLS: Final = {
    *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
}
_UNDERSTOOD: Final = _PLACE | _TLS | {"application_name", "options", "krbsrvname", "gsslib"}
_FILES: Final = {
    "sslrootcert": "TIDEMILL_DATABASE_CA_FILE",
    "sslcert": "TIDEMILL_DATABASE_CERT_FILE",
    "sslkey": "TIDEMILL_DATABASE_KEY_FILE",
}
_INSTEAD: Final = {
    "channel_binding": "leave it out and verify the server with TIDEMILL_DATABASE_SSLMODE=verify-full",
    "connect_timeout": "leave it out: an attempt to connect always ends after 10 s",
    "gssencmode": "leave it out, and encrypt with TIDEMILL_DATABASE_SSLMODE",
    "tcp_user_timeout": "leave it out: a server that does not answer is always given up after 35 s",
}
_KEEPALIVES: Final = "keepalives"


def check_database_url(value: SecretStr) -> SecretStr:
    """Return the URL if both drivers understand it. Raises `ValueError` with what was expected, without a secret."""
    value = SecretStr(value.get_secret_value().strip())
    url = urlsplit(value.get_secret_value())
    if url.scheme not in {"postgresql", "postgres"} or not url.path.strip("/"):
        raise ValueError("expected postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    for name, given in _parameters(url).items():
        if name not in _UNDERSTOOD:
            raise ValueError(f"expected no parameter {name}: {_instead_of(name)}")
        if name in _FILES and not Path(given).is_file():
            raise ValueError(
                f"expected a file as {name}, and {given} is not a file: correct it, or use {_FILES[name]}"
            )
    return value


def travels_in_plain_text(database_url: str) -> bool:
    """Whether traffic to the server may be read by others: one of its hosts is remote, and TLS is not required."""
    url = urlsplit(database_url)
    return not all(map(is_local, _hosts(url))) and "sslmode" not in _parameters(url)


def is_local(host: str) -> bool:
    """Whether `host` cannot be reached from another machine, so that plain text stays on this one."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in {"", "localhost"} or host.startswith("/")


def _parameters(url: SplitResult) -> dict[str, str]:
    return dict(parse_qsl(url.query, keep_blank_values=True))


def _hosts(url: SplitResult) -> list[str]:
    """Return the hosts: there may be several, and `host` overrides the URL's host part."""
    named = _parameters(url).get("host")
    if named is not None:
        return named.split(",")
    return [urlsplit(f"//{host}").hostname or "" for host in url.netloc.rpartition("@")[2].split(",")]


def _instead_of(name: str) -> str:
    if name.startswith(_KEEPALIVES):
        return _INSTEAD["tcp_user_timeout"]
    return _INSTEAD.get(name, "leave it out; set the server's settings for a login with `alter role ... set`")
