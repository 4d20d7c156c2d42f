"""The process `serve http`: the API, with what waits for outcomes beside it."""

from __future__ import annotations

from collections.abc import Sequence

from tidemill.app.connections import SharedResources, database_probe, kafka_connection
from tidemill.app.deployment import Deployment
from tidemill.app.http_api import open_api
from tidemill.app.processes.base import footprint_job, owner_name, run_process
from tidemill.app.startup.migrations import demand_migrations
from tidemill.http.health import Probe
from tidemill.http.server import HttpService, Listening
from tidemill.runtime.service import Job
from tidemill.runtime.service_group import ServiceGroup
from tidemill.security.bind_policy import BindPolicy, bind_policy
from tidemill.transport.kafka.client.probe import KafkaProbe


def serve_http(deployment: Deployment) -> int:
    """Run the process; return its exit code. Raises what no retry can fix."""
    policy_of(deployment)  # before anything is connected to

    async def assemble(shared: SharedResources) -> Sequence[Job]:
        return [
            *await http_jobs(shared, deployment),
            await footprint_job(shared, deployment.settings, "http", login="http"),
        ]

    topics = {part.stream.topics.commands: 1 for part in deployment.catalog.contexts.values()}
    probes: list[Probe] = [
        database_probe(deployment.settings, login="http"),
        KafkaProbe(kafka_connection(deployment.settings), topics),
    ]
    return run_process("http", deployment.settings, assemble, probes)


def policy_of(deployment: Deployment) -> BindPolicy:
    """Return what follows from where the API listens. Raises `UsageError`: it must not listen there."""
    http = deployment.settings.http
    return bind_policy(http.host, tls=http.cert_file is not None, trusted_proxies=http.proxies())


async def http_jobs(shared: SharedResources, deployment: Deployment) -> list[Job]:
    """Open what the API needs, and return the jobs of this process."""
    await demand_migrations(deployment, login="http")
    process, http = owner_name("http"), deployment.settings.http
    opened = await open_api(shared, deployment, process, policy_of(deployment))
    listening = Listening(http.host, http.port, http.cert_file, http.key_file)

    def make() -> ServiceGroup:
        server = HttpService(opened.gateway, listening, drain=opened.drain)
        return ServiceGroup({"http": server, **opened.services}, opening=_nothing, closing=[])

    return [Job("http", make)]


async def _nothing() -> None:
    """Open nothing: it is open."""
