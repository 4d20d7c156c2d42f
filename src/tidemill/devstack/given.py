"""Servers that somebody else runs, as the environment names them."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tidemill.devstack.errors import DevstackError
from tidemill.devstack.probes import http_answers, tcp_answers


@dataclass(frozen=True)
class GivenServers:
    """Addresses as their users need them; the registry is optional."""

    database_url: str
    kafka_bootstrap: str
    registry_url: str | None


@dataclass(frozen=True)
class Probe:
    """Whether one of the given servers answered."""

    server: str
    address: str
    answers: bool


def given_servers(environ: Mapping[str, str], prefix: str) -> GivenServers | None:
    """What the variables `<prefix>DATABASE_URL` and so on name; half of it is an error."""
    database, broker, registry = (
        environ.get(prefix + name) or None for name in ("DATABASE_URL", "KAFKA_BOOTSTRAP", "REGISTRY_URL")
    )
    if database and broker:
        return GivenServers(database, broker, registry)
    if database or broker:
        there, absent = ("DATABASE_URL", "KAFKA_BOOTSTRAP")[:: 1 if database else -1]
        raise DevstackError(
            f"{prefix}{there} is set but {prefix}{absent} is not: set both to use given servers, "
            "or unset both to have them started for you"
        )
    return None


def probe(given: GivenServers) -> list[Probe]:
    """Ask each server; since it may want TLS or a password that we do not know, an open port must do."""
    database = _addresses(urlsplit(given.database_url).netloc.rpartition("@")[2], default_port=5432)
    brokers = _addresses(given.kafka_bootstrap, default_port=9092)
    found = [_probe("postgres", database), _probe("kafka", brokers)]
    if given.registry_url is not None:
        answers = http_answers(f"{given.registry_url.rstrip('/')}/subjects")
        found.append(Probe("registry", given.registry_url, answers))
    return found


def require_answers(given: GivenServers, prefix: str) -> None:
    """Raise DevstackError naming the servers that do not answer."""
    silent = [probed for probed in probe(given) if not probed.answers]
    if silent:
        named = ", ".join(f"{probed.server} at {probed.address}" for probed in silent)
        raise DevstackError(
            f"no answer from {named}: start them, correct {prefix}DATABASE_URL, {prefix}KAFKA_BOOTSTRAP "
            f"and {prefix}REGISTRY_URL, or unset these to have servers started for you"
        )


def _probe(server: str, addresses: list[tuple[str, int]]) -> Probe:
    shown = ",".join(f"{host}:{port}" for host, port in addresses)
    return Probe(server, shown, any(tcp_answers(host, port) for host, port in addresses))


def _addresses(listed: str, *, default_port: int) -> list[tuple[str, int]]:
    """Hosts and ports of `host:port,host:port`."""
    try:
        parts = [urlsplit(f"//{one.strip()}") for one in listed.split(",")]
        return [(part.hostname or "127.0.0.1", part.port or default_port) for part in parts]
    except ValueError as error:
        raise DevstackError(f"{listed!r} is no list of host:port") from error
