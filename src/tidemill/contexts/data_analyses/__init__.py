"""Data analyses: requested, worked off, and ended by a result or an error; files belong to an analysis."""

from datetime import datetime
from typing import Annotated

from pydantic import Field, StringConstraints

from tidemill.api import (
    CleanLabel,
    CleanText,
    Json,
    Label,
    Life,
    Message,
    Query,
    entity,
    family,
    refers,
    step,
    unique,
)


class DataAnalysis(Message):
    """An analysis that a user asked for."""

    user_id: Label = Field(description="The user who asked for it.")
    name: CleanLabel = Field(description="The name that the user gave it.")
    kind: CleanLabel = Field(description="The kind of analysis.")
    parameters: Json = Field(default="{}", description="The parameters, a JSON object.")
    status: str = Field(default="queued", description="How far it is.")
    result: Json | None = Field(default=None, description="The result, a JSON object.")
    error: CleanText | None = Field(default=None, description="Why it failed.")
    started_at: datetime | None = Field(default=None, description="When it was started.")
    finished_at: datetime | None = Field(default=None, description="When it was completed or failed.")


class AnalysisFile(Message):
    """A file of an analysis; where its bytes are, not the bytes."""

    filename: CleanLabel = Field(description="The name, one per analysis.")
    file_type: CleanLabel = Field(description="The type, such as text/csv.")
    size_bytes: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(description="The size.")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="The SHA-256 of the bytes, 64 hexadecimal digits in lower case."
    )
    location: CleanText = Field(description="The URL or path of the bytes.")


data_analyses = entity(
    DataAnalysis,
    plural="data_analyses",
    refers=(refers("user_id", to="users", code="NO_USER"),),
    index=(("user_id", "status", "created_at"),),
    life=Life(
        "queued",
        (
            step("Start", "Started", before=("queued",), to="running", at="started_at"),
            step(
                "Complete",
                "Completed",
                before=("running",),
                to="completed",
                sets=("result",),
                at="finished_at",
            ),
            step(
                "Fail", "Failed", before=("queued", "running"), to="failed", sets=("error",), at="finished_at"
            ),
        ),
        updates=("queued",),
    ),
)

analysis_files = entity(
    AnalysisFile,
    within=data_analyses,
    unique=(unique("data_analysis_id", "filename"),),
    index=(("data_analysis_id", "file_type"),),
)

_SHOWN = {"id": str, "name": str, "kind": str, "status": str, "created_at": datetime, "finished_at": datetime}

analyses_by_status = Query(
    "analyses-by-status",
    "select id, name, kind, status, created_at, finished_at from data_analyses_view "
    "where user_id = :user_id and status = :status order by created_at desc, id",
    parameters={"user_id": str, "status": str},
    returns=_SHOWN,
    reads=("data-analyses",),
)
recent_analyses = Query(
    "recent-analyses",
    "select id, name, kind, status, created_at, finished_at from data_analyses_view "
    "where user_id = :user_id and created_at >= :since order by created_at desc, id",
    parameters={"user_id": str, "since": datetime},
    returns=_SHOWN,
    reads=("data-analyses",),
)
files_of_analysis = Query(
    "files-of-analysis",
    "select id, filename, file_type, size_bytes, sha256, location from analysis_files_view "
    "where data_analysis_id = :data_analysis_id order by file_type, filename",
    parameters={"data_analysis_id": str},
    returns={
        "id": str,
        "filename": str,
        "file_type": str,
        "size_bytes": int,
        "sha256": str,
        "location": str,
    },
    reads=("analysis-files",),
)

context = family(
    "data-analyses",
    data_analyses,
    analysis_files,
    queries=(analyses_by_status, recent_analyses, files_of_analysis),
)
