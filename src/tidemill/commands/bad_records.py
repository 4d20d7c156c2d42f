"""What becomes of the one record of a batch that cannot be written: rejected, or else parked, or its lane is halted."""

from __future__ import annotations

from tidemill.commands.handlers import TooManyFoldPasses
from tidemill.commands.numbering import clean
from tidemill.commands.validation import IncomingCommand
from tidemill.domain.decision import Rejected
from tidemill.domain.errors import DataError, TidemillError, Unreadable
from tidemill.domain.rejections import ParkingCode, RejectionCode


def reject_or_park(arrival: IncomingCommand, refused: TidemillError) -> bool:
    """Reject the one record that is at fault; if even that cannot be written, park it unchanged.

    Returns False if it was to be parked already.
    """
    if isinstance(arrival.disposition, Unreadable):
        return False
    if isinstance(refused, TooManyFoldPasses):
        arrival.disposition = Unreadable(ParkingCode.CRASHED, "its rule gives other values at each call")
    elif arrival.disposition is None:
        arrival.disposition = Rejected(RejectionCode.INVALID, _reason(refused))
    else:
        arrival.disposition = Unreadable(ParkingCode.MALFORMED, _reason(refused))
        arrival.decoded = arrival.command = arrival.command_id = None
    return True


def _reason(refused: TidemillError) -> str:
    assert isinstance(refused, DataError)
    return f"the database refused a value ({refused.sqlstate}): {refused.detail}"


def evidence(arrival: IncomingCommand, refused: TidemillError) -> str:
    """Return why a lane is halted before a record."""
    record = arrival.record
    return clean(f"partition {record.partition}, offset {record.offset}: {_reason(refused)}")
