"""The process `serve all`: everything in one, for development and small deployments."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack

from tidemill.app.commands_process import command_jobs, probes
from tidemill.app.deployment import Deployment
from tidemill.app.process import run_process
from tidemill.app.projections_process import projection_jobs
from tidemill.service import Job


def serve_all(deployment: Deployment) -> int:
    """Run the process; return its exit code. Raises what no retry can mend."""

    async def assemble(shared: AsyncExitStack) -> Sequence[Job]:
        return [*await command_jobs(shared, deployment), *await projection_jobs(shared, deployment)]

    return run_process("all", deployment.settings, assemble, probes(deployment))
