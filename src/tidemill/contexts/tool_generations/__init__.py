"""Tool generations: interactive tools that users ask for, and what came out."""

from datetime import datetime

from pydantic import Field

from tidemill.api import CleanLabel, CleanText, Json, Label, Life, Message, Query, entity, refers, step


class ToolGeneration(Message):
    """A request for a tool."""

    user_id: Label = Field(description="The user who asked for it.")
    tool_type: CleanLabel = Field(description="The type of tool.")
    prompt: CleanText = Field(description="What the user asked for, in words.")
    parameters: Json = Field(default="{}", description="The parameters, a JSON object.")
    status: str = Field(default="queued", description="How far it is.")
    result: Json | None = Field(default=None, description="The result, a JSON object.")
    error: CleanText | None = Field(default=None, description="Why it failed.")


tool_generations = entity(
    ToolGeneration,
    refers=(refers("user_id", to="users", code="NO_USER"),),
    index=(("user_id", "status", "tool_type"),),
    life=Life(
        "queued",
        (
            step("Start", "Started", before=("queued",), to="running"),
            step("Complete", "Completed", before=("running",), to="completed", sets=("result",)),
            step("Fail", "Failed", before=("queued", "running"), to="failed", sets=("error",)),
        ),
        updates=("queued",),
    ),
)

tools_by_type = Query(
    "tools-by-type",
    "select id, tool_type, status, prompt, parameters, created_at from tool_generations_view "
    "where user_id = :user_id and status = :status and tool_type = :tool_type order by created_at desc, id",
    parameters={"user_id": str, "status": str, "tool_type": str},
    returns={
        "id": str,
        "tool_type": str,
        "status": str,
        "prompt": str,
        "parameters": dict,
        "created_at": datetime,
    },
    reads=("tool-generations",),
)

context = tool_generations.context(queries=(tools_by_type,))
