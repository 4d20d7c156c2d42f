"""The reference archiver: a workflow of its own that knows only the archive's messages, a reader and a lake."""
