"""The error tree.

    TidemillError
    ├── UsageError            the caller can fix it: a wrong argument, setting or file
    ├── ContractError         a context or schema is declared wrongly; found at start
    ├── TableMisfit           a context's table is not as declared: what needs it waits, everything else continues
    ├── MasterKeyMissing      a master key of the database's secrets is not set, or is another one: what needs it waits
    ├── SecretUnreadable      an encrypted value cannot be opened: erased, its key lost, or changed
    ├── Unreadable            one record cannot be read: it is parked
    │   └── NewerSchema       a newer version takes it whole: its lane waits for one first
    ├── TransientError        the same work may succeed later: back off and try the whole batch again
    │   ├── Unavailable       a server is unavailable
    │   ├── NotCompared       a lane may not be written to yet: it was not compared with its topics
    │   └── CommitUnknown     the connection broke during COMMIT: read the ledger, never guess
    ├── DataError             the database refused a value: bisect the batch
    ├── RepeatedIds           an id of the batch is already in the open generation: look it up, redo
    ├── GenerationClosed      the log rolled over under the batch: redo in the new generation
    ├── Fenced                another process holds the lane's claim
    ├── LaneHalted            a lane must not continue by itself: an operator decides
    ├── CopyError             a copy in the lake proves nothing: missing, damaged, or of other columns
    │   └── PathRefused       it is not below a root that may be read
    ├── CopyStands            another copy has the names that one was to take
    └── RequestRefused        a request over HTTP is refused; the code has status and advice

Every error carries a code, its values as fields, and by its code an advice. Its text says what happened and, where
somebody can act, what to do next; whoever reads by machine takes code, fields and advice, and parses no sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from tidemill.domain.error_codes import ErrorCode
from tidemill.domain.rejections import PARKED, ParkingCode
from tidemill.domain.request_codes import RequestCode


class TidemillError(Exception):
    """Root of everything Tidemill raises on purpose.

    `kind`: the code of the class. `code`: that of this error, which may say more. `fact`: what happened, without the
    advice. `fields`: the values, by name; values of JSON, and tuples of them.
    """

    kind: ClassVar[ErrorCode] = ErrorCode.FAILED

    def __init__(self, fact: str = "", *, code: ErrorCode | None = None, **fields: object) -> None:
        """The text is the fact and, where the code has a joint, the advice."""
        self.fact = fact
        self.fields: Mapping[str, object] = fields
        self.code: str = code or self.kind
        joint = (code or self.kind).joint
        super().__init__(fact if joint is None else f"{fact}{joint}{self.advice}")

    @property
    def advice(self) -> str:
        """Return what to do about it."""
        code = self.code if isinstance(self.code, ErrorCode) else self.kind
        return code.advice_for(self.fields)


class UsageError(TidemillError):
    """The caller can fix it: a wrong argument, setting or file."""

    kind = ErrorCode.USAGE


class ContractError(TidemillError):
    """A context or schema is declared wrongly. Found at start, before anything is consumed."""

    kind = ErrorCode.CONTRACT


class TableMisfit(TidemillError):
    """A table of a context is not what the context declares: what needs it waits, everything else continues.

    `detail` says what differs, or what the database said when it was met.
    """

    kind = ErrorCode.TABLE_MISFIT

    def __init__(self, detail: str) -> None:
        """Begin with the code that status, health and metrics have too."""
        super().__init__(f"{self.kind}: {detail}", detail=detail)
        self.detail = detail


class MasterKeyMissing(TidemillError):
    """A master key that the database's secrets need is not set here, or is another one of that name.

    What needs it waits, everything else continues. `masters`: the names.
    """

    kind = ErrorCode.SECRET_KEYS_MISSING

    def __init__(self, detail: str, *, code: ErrorCode | None = None, masters: tuple[str, ...] = ()) -> None:
        """`code`: `SECRET_KEY_WRONG` for a key that is another one."""
        super().__init__(f"{code or self.kind}: {detail}", code=code, detail=detail, masters=masters)
        self.detail = detail


class SecretUnreadable(TidemillError):
    """An encrypted value cannot be opened. `place`: collection, key and field. It never holds any part of the value."""

    kind = ErrorCode.SECRET_DAMAGED

    def __init__(self, place: str, detail: str, *, code: ErrorCode | None = None) -> None:
        """`code`: `SECRET_ERASED` or `SECRET_KEY_LOST`, if it is not the text that is wrong."""
        super().__init__(f"{code or self.kind}: {place}: {detail}", code=code, place=place, detail=detail)


class Unreadable(TidemillError):
    """One record cannot be read; it is parked unchanged.

    `code` is one of the parking codes of `rejections.PARKED`; `detail` says what was wrong with the bytes.
    """

    kind = ErrorCode.UNREADABLE

    def __init__(self, code: str, detail: str) -> None:
        """Keep the code apart from the text: operators filter by the code."""
        super().__init__(f"{code}: {detail}", detail=detail)
        self.code = code
        self.detail = detail

    @property
    def advice(self) -> str:
        """Return the advice of its parking code."""
        return PARKED.get(self.code, self.kind.advice)


class NewerSchema(Unreadable):
    """A record of a schema that the registry explains, and that only a newer version takes whole.

    It is parked as a last resort: before that its lane waits for a process of that version. `schema`: its id in the
    registry, or its fingerprint. `type_name`: the message's full name. `service`: the sender, where the record names
    one.
    """

    def __init__(self, detail: str, *, schema: str, type_name: str, service: str | None) -> None:
        """`detail` says what is not known here, without any value that was sent."""
        super().__init__(ParkingCode.NEWER_SCHEMA, detail)
        self.fields = {"detail": detail, "schema": schema, "type_name": type_name, "service": service}
        self.schema = schema
        self.type_name = type_name
        self.service = service


class TransientError(TidemillError):
    """The same work may succeed later: pause, back off, try the whole batch again."""

    kind = ErrorCode.TRANSIENT


class Unavailable(TransientError):
    """A server does not answer or does not let us in. `server` is `database`, `kafka`, `registry` or `lake`.

    `advised`: it is there, and `detail` says what to do so that it lets us in.
    """

    kind = ErrorCode.UNAVAILABLE

    def __init__(self, server: str, detail: str, *, advised: bool = False) -> None:
        """Name the server so that health and logs can tell which one is unavailable."""
        super().__init__(f"{server} is not available: {detail}", server=server, detail=detail)
        self.server = server
        self.advised = advised


class NotCompared(TransientError):
    """A lane may not be written to beside its records before its owner has compared it with its topics."""

    kind = ErrorCode.NOT_COMPARED

    def __init__(self, lane_id: int, why: str, *, name: str | None = None) -> None:
        """`why`: since when it was not compared. `name`: of the lane."""
        lane = lane_id if name is None else name
        super().__init__(f"lane {lane} was not compared with its topics {why}", lane=lane)
        self.lane_id = lane_id


class CommitUnknown(TransientError):
    """The connection broke during COMMIT: the batch is either whole in the database or not there at all."""

    kind = ErrorCode.COMMIT_UNKNOWN


class DataError(TidemillError):
    """The database refused a value of the batch. `sqlstate` is PostgreSQL's code, `detail` its message."""

    kind = ErrorCode.DATA_REFUSED

    def __init__(self, sqlstate: str, detail: str) -> None:
        """Keep SQLSTATE: the rejection message quotes it."""
        super().__init__(f"{sqlstate}: {detail}", sqlstate=sqlstate, detail=detail)
        self.sqlstate = sqlstate
        self.detail = detail


class RepeatedIds(TidemillError):
    """COPY met an id that the open generation already holds: look the ids up and redo the batch."""

    kind = ErrorCode.REPEATED_IDS


class GenerationClosed(TidemillError):
    """The log rolled to a new generation while the batch was written: redo it in the new one."""

    kind = ErrorCode.GENERATION_CLOSED


class Fenced(TidemillError):
    """Another process claimed the lanes named in `lanes`; drop them and continue with the rest."""

    kind = ErrorCode.FENCED

    def __init__(self, lanes: frozenset[int]) -> None:
        """`lanes` are lane ids (`tm.lane.lane`)."""
        super().__init__(f"lanes {sorted(lanes)} were claimed by another process", lanes=tuple(sorted(lanes)))
        self.lanes = lanes


class LaneHalted(TidemillError):
    """A lane must not continue by itself. `code` names why, `detail` gives the evidence."""

    kind = ErrorCode.LANE_HALTED

    def __init__(self, lane_id: int, code: str, detail: str, *, name: str | None = None) -> None:
        """The verb that resumes a lane is the same for every code, so the message carries it. `name`: of the lane."""
        lane = lane_id if name is None else name
        super().__init__(f"lane {lane} halted, {code}: {detail}", lane=lane, detail=detail)
        self.lane_id = lane_id
        self.code = code
        self.detail = detail


class CopyError(TidemillError):
    """A copy in the lake proves nothing: it is missing, damaged, or has other columns. `path` is where it was read."""

    kind = ErrorCode.COPY_UNUSABLE

    def __init__(self, path: str, detail: str) -> None:
        """Name the place: an operator looks there first."""
        super().__init__(f"the copy at {path} cannot be used: {detail}", path=path, detail=detail)
        self.path = path
        self.detail = detail


class CopyStands(TidemillError):
    """Another copy already has the file names of this one; it may be the only one of its rows."""

    kind = ErrorCode.COPY_EXISTS

    def __init__(self, path: str, slice_: object, event_id: str, detail: str) -> None:
        """`path`: where it is. `detail`: how it differs from what was to be written."""
        super().__init__(
            f"at {path} there is another copy of {slice_} for event {event_id}: {detail}. It was not changed, and "
            "nothing was written",
            path=path,
            slice=str(slice_),
            event_id=event_id,
            detail=detail,
        )
        self.path = path
        self.detail = detail


class PathRefused(CopyError):
    """A message names a place that is not below any root that may be read: nothing there was touched."""

    kind = ErrorCode.PATH_REFUSED


@dataclass(frozen=True, slots=True)
class RequestFault:
    """One thing that is wrong with a request. `where`: a JSON pointer, or the name of a parameter or header."""

    kind: Literal["pointer", "parameter", "header"]
    where: str
    detail: str
    code: str = ""


class RequestRefused(TidemillError):
    """A request over HTTP is refused. `code` has status, retry and advice; `faults` all that is wrong.

    `retry_after_s`: in how many seconds it may be sent again, where that is known.
    """

    kind = ErrorCode.USAGE

    def __init__(
        self,
        code: RequestCode,
        detail: str,
        *faults: RequestFault,
        retry_after_s: float | None = None,
    ) -> None:
        """`detail`: one sentence with what is wrong; never SQL, and no name that its reader may not see."""
        super().__init__(detail, detail=detail)
        self.request_code = code
        self.code = code
        self.detail = detail
        self.faults = faults
        self.retry_after_s = retry_after_s

    @property
    def advice(self) -> str:
        """Return what the sender should do."""
        return self.request_code.advice
