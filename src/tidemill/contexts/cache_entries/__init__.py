"""Cache entries: values that services keep for a while, under keys of their own; from their time on they are gone."""

from datetime import datetime

from pydantic import Field

from tidemill.api import Json, Message, entity


class CacheEntry(Message):
    """A value that is kept until a time, under the key that its entry has."""

    value: Json = Field(description="What is kept, a JSON object.")
    expires_at: datetime = Field(description="The time from which on no reader is shown the entry.")


cache_entries = entity(CacheEntry, plural="cache_entries", delete="hard", expires="expires_at")

context = cache_entries.context()
