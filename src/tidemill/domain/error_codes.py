"""Every code of an error that a verb, a service or an outside such as HTTP meets, each defined once, with its advice.

An advice may name fields of the error in braces. The table in docs/codes.md is checked against these by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from tidemill.domain.rejections import Code


class ErrorCode(Code):
    """What went wrong, and what to do about it.

    `joint`: how a sentence goes on from what happened to the advice; None where the sentence does not hold it, since
    what to do depends on what the message names.
    """

    joint: str | None

    def __new__(cls, text: str, advice: str, joint: str | None = None) -> Self:
        """Keep the advice beside the code."""
        member = str.__new__(cls, text)
        member._value_ = text
        member.advice = advice
        member.joint = joint
        return member

    def advice_for(self, fields: Mapping[str, object]) -> str:
        """Return the advice, with the fields that it names."""
        return self.advice.format_map({name: _text(value) for name, value in fields.items()})

    FAILED = "FAILED", "read the message: it says what happened; if it names no cause, report a bug"
    USAGE = "USAGE", "correct the argument, setting or file that the message names"
    UNKNOWN_NAME = "UNKNOWN_NAME", "choose one of {choices}", ": "
    NAME_IN_USE = "NAME_IN_USE", "choose another name", ": "
    NAME_REVOKED = (
        "NAME_REVOKED",
        "add it with --reinstate if it is the same {kind}, or choose another name",
        "; ",
    )
    SUBJECT_IN_USE = "SUBJECT_IN_USE", "choose another --subject", ": "
    UNKNOWN_TOKEN = (
        "UNKNOWN_TOKEN",
        "see `tidemill principals show NAME`, which lists ids: the ten characters after tm_",
        "; ",
    )
    PORT_IN_USE = "PORT_IN_USE", "choose another port, or 0 for any free one", "; "
    PLAIN_TEXT = (
        "PLAIN_TEXT",
        (
            "set TIDEMILL_HTTP_CERT_FILE and TIDEMILL_HTTP_KEY_FILE, or TIDEMILL_HTTP_TRUSTED_PROXIES to the networks "
            "of the proxies that encrypt, such as 10.1.0.0/24, or TIDEMILL_HTTP_HOST=127.0.0.1"
        ),
        "; ",
    )
    UNKNOWN_LANE = "UNKNOWN_LANE", "see `tidemill lanes list`", ": "
    UNKNOWN_SLICE = "UNKNOWN_SLICE", "see `tidemill retention status {table}`", ": "
    NOT_SET = "NOT_SET", "set it, or start servers with `tidemill dev up`", ": "
    LAKE_NOT_SET = "LAKE_NOT_SET", "set it to the folder or URL {purpose}", ": "
    OTHER_VERSION = "OTHER_VERSION", "bring all processes to {version}, then repeat this", "; "
    LANE_NOT_HALTED = "LANE_NOT_HALTED", "see `tidemill lanes show {lane}`", ": "
    OTHER_HALT = "OTHER_HALT", "see `tidemill lanes show {lane}`", ": "
    LOGIN_REFUSED = "LOGIN_REFUSED", "see {settings}", "; "
    EXTRA_MISSING = "EXTRA_MISSING", "pip install 'tidemill[{extras}]'", ": "
    NOT_MIGRATED = "NOT_MIGRATED", "run `tidemill migrate`", ": "
    CONTRACT = "CONTRACT", "correct what the context or the schema declares, then start again"
    NOT_CREATED = "NOT_CREATED", "run `tidemill topics create`", ": "
    DATABASE_DIFFERS = (
        "DATABASE_DIFFERS",
        "`tidemill migrate --status` shows whether a migration is missing; if none is, it was changed by hand",
        "; ",
    )
    TABLE_MISFIT = "TABLE_MISFIT", "`tidemill status` names what differs, and what would correct it"
    SECRET_KEYS_MISSING = (
        "SECRET_KEYS_MISSING",
        "add the master keys to TIDEMILL_SECRET_KEYS; `tidemill secrets forget` gives up one that is lost",
    )
    SECRET_KEY_WRONG = (
        "SECRET_KEY_WRONG",
        "set TIDEMILL_SECRET_KEYS to the key that had this name before; a new key needs a new name",
    )
    SECRET_ERASED = "SECRET_ERASED", "nothing brings the value back: send a new one"
    SECRET_KEY_LOST = (
        "SECRET_KEY_LOST",
        "look for the row's key in a backup of `tm.secret_key` that is younger than the value, or send a new value",
    )
    SECRET_DAMAGED = (
        "SECRET_DAMAGED",
        "find out who wrote it there: it was changed, or copied from another row or field; send the value again",
    )
    UNREADABLE = "UNREADABLE", "fix the producer, send the command again"
    TRANSIENT = "TRANSIENT", "try again; a service does so by itself"
    UNAVAILABLE = "UNAVAILABLE", "start the server, or correct its address; a service tries again by itself"
    NOT_COMPARED = (
        "NOT_COMPARED",
        "whoever serves it does so at its next claim; start that, or wait until it has",
        ": ",
    )
    COMMIT_UNKNOWN = "COMMIT_UNKNOWN", "look whether it was done before you ask for it again"
    MIGRATION_BLOCKED = (
        "MIGRATION_BLOCKED",
        "Wait for that session or end it, then migrate again: what was applied before stays.",
        ". ",
    )
    MIGRATION_FAILED = (
        "MIGRATION_FAILED",
        "correct the revision, then migrate again: what was applied before stays",
    )
    DATA_REFUSED = "DATA_REFUSED", "correct the value that the database names"
    REPEATED_IDS = "REPEATED_IDS", "nothing to do: the batch is done again, with these ids looked up"
    GENERATION_CLOSED = "GENERATION_CLOSED", "nothing to do: the work is done again in the new generation"
    FENCED = "FENCED", "nothing to do: the lanes have another owner"
    LANE_HALTED = "LANE_HALTED", "see `tidemill lanes show {lane}`", "; "
    FOREIGN_RECORD = "FOREIGN_RECORD", "find out who did", ": "
    COPY_UNUSABLE = "COPY_UNUSABLE", "look at the path: no row leaves the database because of this copy"
    COPY_EXISTS = (
        "COPY_EXISTS",
        (
            "Find out who wrote it: a clone of the database that archives to the same lake needs a registry id of its "
            'own (docs/archival.md, "Clones"); then `tidemill retention retry`'
        ),
        ". ",
    )
    PATH_REFUSED = "PATH_REFUSED", "see TIDEMILL_RETENTION_ROOTS"
    REPLAY_FAILED = "REPLAY_FAILED", "bring back the events that the message names; the rows are unchanged"
    REBUILD_LOST = "REBUILD_LOST", "run it again", ": "
    FOLD_FAILED = "FOLD_FAILED", "fix the projection's code, then restart the projector"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
