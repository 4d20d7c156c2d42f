"""The process `serve all`: everything in one, for development and small deployments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from tidemill.app.connections import SharedResources, database_probe, kafka_connection
from tidemill.app.deployment import Deployment
from tidemill.app.processes.base import footprint_job, run_process
from tidemill.app.processes.commands import command_jobs
from tidemill.app.processes.http import http_jobs, policy_of
from tidemill.app.processes.projections import projection_jobs
from tidemill.domain.errors import UsageError
from tidemill.http.health import Probe
from tidemill.runtime.service import Job
from tidemill.runtime.telemetry.log_events import Log
from tidemill.runtime.telemetry.logging import logger
from tidemill.transport.kafka.client.probe import KafkaProbe

_log = logger(__name__)


def serve_all(deployment: Deployment) -> int:
    """Run the process; return its exit code. Raises what no retry can fix."""
    if serves_http(deployment):
        policy_of(deployment)  # before anything is connected to

    async def assemble(shared: SharedResources) -> Sequence[Job]:
        return [
            *await command_jobs(shared, deployment),
            *await projection_jobs(shared, deployment),
            *await _archive_jobs(shared, deployment),
            *(await http_jobs(shared, deployment) if serves_http(deployment) else []),
            await footprint_job(shared, deployment.settings, "all"),
        ]

    return run_process("all", deployment.settings, assemble, _probes(deployment))


def serves_http(deployment: Deployment) -> bool:
    """Return whether this process has an API, too: where nobody chose a port, nobody would find it."""
    return deployment.settings.http.port != 0


def archive_is_off(deployment: Deployment) -> str | None:
    """Return why nothing leaves this deployment's database, None if something may."""
    if deployment.catalog.archive is None:
        return "no context declares a retention"
    if deployment.settings.lake.root is None:
        return "TIDEMILL_LAKE_ROOT is not set"
    return None


async def _archive_jobs(shared: AsyncExitStack, deployment: Deployment) -> list[Job]:
    """Return the jobs of `serve retention` and `serve archiver`, none if the archive is off."""
    reason = archive_is_off(deployment)
    if reason is not None:
        _log.info(Log.ARCHIVE_OFF, reason=reason)
        return []
    try:
        from tidemill.app.processes.archiver import archiver_jobs  # noqa: PLC0415  both load pyarrow, which is an extra
        from tidemill.app.processes.retention import retention_jobs  # noqa: PLC0415  as above
    except ModuleNotFoundError as error:
        raise UsageError(
            f"TIDEMILL_LAKE_ROOT is set, and the archive needs {error.name}: pip install 'tidemill[archive]', "
            "or unset it"
        ) from error
    return [*await retention_jobs(shared, deployment), *await archiver_jobs(shared, deployment)]


def _probes(deployment: Deployment) -> list[Probe]:
    parts = deployment.catalog.contexts if archive_is_off(deployment) else deployment.catalog.streams
    topics = {part.stream.topics.commands: 1 for part in parts.values()}
    return [database_probe(deployment.settings), KafkaProbe(kafka_connection(deployment.settings), topics)]
