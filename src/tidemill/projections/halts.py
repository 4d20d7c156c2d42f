"""Every reason for which a projection stops in a lane, with its advice."""

from __future__ import annotations

from typing import Final

from tidemill.domain.error_codes import ErrorCode

GAP: Final = "GAP"
UNREADABLE: Final = "UNREADABLE"
UNFETCHABLE: Final = "UNFETCHABLE"
OFFSET_LOST: Final = "OFFSET_LOST"
TOPIC_CHANGED: Final = "TOPIC_CHANGED"
STOPPED: Final = "STOPPED"
TABLE_MISFIT: Final[str] = ErrorCode.TABLE_MISFIT
AHEAD: Final = "AHEAD"
WITHDRAWN: Final = "WITHDRAWN"

HALTS: Final[dict[str, str]] = {
    GAP: "events are missing from the topic: it continues by itself when they arrive",
    UNREADABLE: "this version cannot read the event: deploy the one that can, or give a renamed field its name back, "
    "then restart the projector",
    UNFETCHABLE: "the record is damaged, or its codec is missing: fix the topic, or rebuild from a complete one",
    OFFSET_LOST: "the next event was deleted from the topic: restore the topic, or rebuild from a complete one",
    TOPIC_CHANGED: "the last event folded is no longer in the topic: it was re-created; find out why, then rebuild",
    AHEAD: "the topic is ahead of the log, the database was restored: reconcile the lane, then it continues by itself",
    WITHDRAWN: "events that it has folded were withdrawn when the lane was reconciled: rebuild it",
    TABLE_MISFIT: "its table is not as declared: fix what is named, then it continues by itself",
    STOPPED: "the projection's own code failed, or the database refused a row: fix it, then restart the projector",
}
