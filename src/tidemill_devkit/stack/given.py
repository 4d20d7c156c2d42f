"""Given servers, named by the environment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from tidemill_devkit.stack.errors import DevstackError
from tidemill_devkit.stack.probes import http_answers, tcp_answers


@dataclass(frozen=True)
class GivenServers:
    """Addresses as their users need them; the registry is optional."""

    database_url: str
    kafka_bootstrap: str
    registry_url: str | None


@dataclass(frozen=True)
class ServerProbe:
    """Whether one of the given servers answered; `setting` is the end of the variable that names it."""

    server: str
    address: str
    answers: bool
    setting: str


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


def probe(given: GivenServers) -> list[ServerProbe]:
    """Ask each server; since it may require TLS or an unknown password, an open port is enough."""
    database = _addresses(urlsplit(given.database_url).netloc.rpartition("@")[2], default_port=5432)
    brokers = _addresses(given.kafka_bootstrap, default_port=9092)
    found = [_probe("postgres", database, "DATABASE_URL"), _probe("kafka", brokers, "KAFKA_BOOTSTRAP")]
    if given.registry_url is not None:
        answers = http_answers(f"{given.registry_url.rstrip('/')}/subjects")
        found.append(ServerProbe("registry", given.registry_url, answers, "REGISTRY_URL"))
    return found


def silence(probed: Iterable[ServerProbe], prefix: str) -> str | None:
    """What to say and to do of servers that do not answer, None if all do; `prefix` begins the variables' names."""
    silent = [each for each in probed if not each.answers]
    if not silent:
        return None
    named = ", ".join(f"{each.server} at {each.address} ({prefix}{each.setting})" for each in silent)
    ones = "it, correct the variable" if len(silent) == 1 else "them, correct the variables"
    return (
        f"the environment gives servers, but there is no answer from {named}: start {ones}, "
        f"or unset {prefix}DATABASE_URL and {prefix}KAFKA_BOOTSTRAP to have servers started for you"
    )


def require_answers(given: GivenServers, prefix: str) -> None:
    """Raise DevstackError naming the servers that do not answer, and their variables."""
    silent = silence(probe(given), prefix)
    if silent is not None:
        raise DevstackError(silent)


def _probe(server: str, addresses: list[tuple[str, int]], setting: str) -> ServerProbe:
    shown = ",".join(f"{host}:{port}" for host, port in addresses)
    return ServerProbe(server, shown, any(tcp_answers(host, port) for host, port in addresses), setting)


def _addresses(listed: str, *, default_port: int) -> list[tuple[str, int]]:
    """Hosts and ports of `host:port,host:port`."""
    try:
        parts = [urlsplit(f"//{one.strip()}") for one in listed.split(",")]
        return [(part.hostname or "127.0.0.1", part.port or default_port) for part in parts]
    except ValueError as error:
        raise DevstackError(f"{listed!r} is not a list of host:port") from error
