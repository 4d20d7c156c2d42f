"""What became of a command, by its id, for the principal that sent it."""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.domain.errors import RequestRefused, TransientError
from tidemill.domain.identity import identify
from tidemill.domain.messages import Outcome
from tidemill.domain.request_codes import RequestCode
from tidemill.security.principals import ALL_COLLECTIONS, Principal, Verb
from tidemill.submissions.ports import IntentReader, LoggedOutcome, OutcomeLog
from tidemill.submissions.requests import LaneToken, SubmissionResult


@dataclass(frozen=True, kw_only=True)
class CommandStatus:
    """Answers `GET /api/db/commands/{command_id}`."""

    log: OutcomeLog
    intents: IntentReader

    async def outcome_of(
        self, command_id: str, principal: Principal, *, service: str | None = None
    ) -> SubmissionResult:
        """Return what became of a command; `outcome` None: it was journalled, and is not consumed yet.

        `service`: whose command it is, for a principal that may `OPERATE`; by default its own.

        Raises:
            RequestRefused: `NO_COMMAND`: never heard of, or another service's. `ID_TAKEN`: it was sent, and another
                service's had its id before. `DATABASE_AWAY`.
        """
        operates = principal.may(Verb.OPERATE, ALL_COLLECTIONS)
        owner = service if operates and service is not None else principal.name
        identity = identify(command_id, owner)
        try:
            entry = (await self.log.outcomes([identity])).get(identity)
            if entry is not None and (operates or entry.service == principal.name):
                return result_of(command_id, entry)
            # asked whatever the log has: a question less would tell that another service has the command
            is_intended = await self.intents.is_intended(identity, None if operates else owner)
            if entry is None and is_intended:
                return SubmissionResult(command_id=command_id)
            if is_intended:
                # whether the two are equal, and so what became of the second, only the engine sees
                raise RequestRefused(RequestCode.ID_TAKEN, f"another command had the id {command_id} before")
        except TransientError as error:
            raise RequestRefused(
                RequestCode.DATABASE_AWAY, "the log of commands cannot be read", retry_after_s=1.0
            ) from error
        raise RequestRefused(RequestCode.NO_COMMAND, f"no command {command_id} of {owner} has arrived")


def result_of(command_id: str, entry: LoggedOutcome) -> SubmissionResult:
    """Return what the log has of a command."""
    return SubmissionResult(
        command_id=command_id,
        outcome=entry.outcome,
        code=entry.code,
        message=entry.detail,
        affected_rows=entry.rows if entry.outcome is Outcome.APPLIED else 0,
        token=LaneToken(entry.aggregate, entry.partition, entry.sequence),
        execution_time_s=entry.seconds,
        transaction_id=f"{entry.aggregate}/{entry.partition}/{entry.position}",
    )
