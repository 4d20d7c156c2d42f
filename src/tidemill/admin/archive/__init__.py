"""The archive as operators ask about it and decide."""
