"""Service proposals: written as a draft, submitted, then accepted, rejected or withdrawn."""

from datetime import datetime

from pydantic import Field

from tidemill.api import CleanLabel, CleanText, Json, Life, Message, entity, step, words


class ServiceProposal(Message):
    """A proposal for a client."""

    title: CleanLabel = Field(description="The title.")
    proposal_data: Json = Field(description="The proposal itself, a JSON object.")
    status: str = Field(default="draft", description="How far it is.")
    reason: CleanText | None = Field(default=None, description="Why it was rejected.")
    submitted_at: datetime | None = Field(default=None, description="When it was submitted.")
    decided_at: datetime | None = Field(
        default=None, description="When it was accepted, rejected or withdrawn."
    )


service_proposals = entity(
    ServiceProposal,
    index=(words("title"), ("status", "created_at")),
    life=Life(
        "draft",
        (
            step("Submit", "Submitted", before=("draft",), to="submitted", at="submitted_at"),
            step("Accept", "Accepted", before=("submitted",), to="accepted", at="decided_at"),
            step(
                "Reject", "Rejected", before=("submitted",), to="rejected", sets=("reason",), at="decided_at"
            ),
            step("Withdraw", "Withdrawn", before=("draft", "submitted"), to="withdrawn", at="decided_at"),
        ),
        updates=("draft",),
    ),
)

context = service_proposals.context()
