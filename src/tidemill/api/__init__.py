"""The public surface: what a context, its tests and the documents import. Only migrations need `tidemill.migration`.

A context is one value of `Context`. It names its commands, its events and its read models:

    class RecordReading(CommandBase): ...            a command is an instruction
    class ReadingRecorded(EventBase): ...            an event is a fact

    context = Context(
        aggregate="sensor-reading",                  names the topics
        key=lambda command: command.sensor,          the key of a command; commands with one key keep their order
        commands=(append(RecordReading, into=fact_table("sensor_reading", RecordReading), event=ReadingRecorded),),
        projections=(latest_readings,),
    )

- `append` makes of each command one row and one event; with `rows=`, many rows and one event, which `fact_event` makes
  from the command's class. `decide` calls your rule, `rule(state, command)`, which
  answers `accepted(*events)` or `rejected(code, message)`; `State` says how events change the state, `Unique` which of
  its values only one aggregate may have.
- A `Projection` folds events into the rows of a read model, each a dataclass based on `ReadModelBase`.
- `folds` declare what a row holds of its events, `folds.Latest(by="time")`, `folds.Sum("volume", ...)`: a projector
  folds them batch by batch.
- `CurrentFacts` shows of facts that a row owns in revisions only those of the revision that the row names;
  `SupersededRemoval` says how the others leave.
- A `Query` is SQL that readers may ask for by name, read only, with typed parameters and results.
- `fact_table` and `row_table` make the tables from the classes whose values they hold, with their indexes:
  `index=(("sensor", "time desc"), words("note"))`.
- `Retention` says which appended rows leave for the archive, and when.
- `checks` are declared by a message: `checks.NotBelow("high", "low")`, `checks.Within("time", ...)`.
- `Annotated[Label, Secret()]` is encrypted before it is stored or published; `SecretReader` opens it. `PasswordHash`,
  `hash_password`, `verify_password` and `SignIn` are for passwords; `entity(..., sign_in=SignInColumns(...))` says
  who may sign in.
- `Crud` says which commands HTTP makes of its verbs: `State(..., http=Crud(...))`, of facts `Context(..., http=...)`;
  entities have it by themselves.
- `Email`, `CleanKey`, `CleanLabel` and `CleanText` refuse what is not clean; `clean` makes it so, for those who send.
- `entity` makes commands, events, rules and table of an aggregate from one class of fields, `family` a context of
  several entities that share a life. `Extra(lapse=Expiry(...))`: what about a row ends by itself at a time.
- A wrong declaration is a `ContractError` at start, before anything is consumed.

Names of this module change only with a note in the changelog, and their old form works for one more version. All other
modules of `tidemill` may change at any time. `docs/contexts.md` explains each part, with its unit tests.
"""

from __future__ import annotations

from tidemill.api.clean_text import CleanKey, CleanLabel, CleanText, Email, clean
from tidemill.api.entities.declaration import Entity, entity, family
from tidemill.api.entities.options import Extra, Life, refers, step, unique
from tidemill.api.events import fact_event
from tidemill.api.indexes import gin, member, named, words
from tidemill.api.json_text import Json
from tidemill.api.passwords import PasswordHash, hash_password, verify_password
from tidemill.api.sign_in import Account, SignIn, SignInAnswer, SignInOutcome, SignInRows
from tidemill.api.tables import fact_table, row_table
from tidemill.domain import checks, folds
from tidemill.domain.archive.policy import LateRule, QuietHours, Retention, RetentionPolicy
from tidemill.domain.collection import Crud
from tidemill.domain.community import Compression, Rollup
from tidemill.domain.context import (
    AppendSpec,
    CommandSpec,
    Context,
    DecideSpec,
    Reference,
    State,
    Unique,
    append,
    decide,
)
from tidemill.domain.decision import Accepted, Decision, Rejected, accepted, rejected
from tidemill.domain.errors import ContractError, TidemillError
from tidemill.domain.json_text import json_object
from tidemill.domain.messages import CommandBase, EventBase, Label, Message, ReadModelBase
from tidemill.domain.partitioner import partition_of
from tidemill.domain.projection import Fold, Key, Projection, Recorded
from tidemill.domain.query import Query
from tidemill.domain.read_view import CurrentFacts, SupersededRemoval
from tidemill.domain.secrets import Secret, SecretReader
from tidemill.domain.state import Expiry, SignInColumns
from tidemill.domain.table_shape import TableShape
from tidemill.runtime.rate_limits import RateLimiter

__all__ = [
    "Accepted",
    "Account",
    "AppendSpec",
    "CleanKey",
    "CleanLabel",
    "CleanText",
    "CommandBase",
    "CommandSpec",
    "Compression",
    "Context",
    "ContractError",
    "Crud",
    "CurrentFacts",
    "DecideSpec",
    "Decision",
    "Email",
    "Entity",
    "EventBase",
    "Expiry",
    "Extra",
    "Fold",
    "Json",
    "Key",
    "Label",
    "LateRule",
    "Life",
    "Message",
    "PasswordHash",
    "Projection",
    "Query",
    "QuietHours",
    "RateLimiter",
    "ReadModelBase",
    "Recorded",
    "Reference",
    "Rejected",
    "Retention",
    "RetentionPolicy",
    "Rollup",
    "Secret",
    "SecretReader",
    "SignIn",
    "SignInAnswer",
    "SignInColumns",
    "SignInOutcome",
    "SignInRows",
    "State",
    "SupersededRemoval",
    "TableShape",
    "TidemillError",
    "Unique",
    "accepted",
    "append",
    "checks",
    "clean",
    "decide",
    "entity",
    "fact_event",
    "fact_table",
    "family",
    "folds",
    "gin",
    "hash_password",
    "json_object",
    "member",
    "named",
    "partition_of",
    "refers",
    "rejected",
    "row_table",
    "step",
    "unique",
    "verify_password",
    "words",
]
