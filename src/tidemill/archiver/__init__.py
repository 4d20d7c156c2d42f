"""The reference archiver: a separate workflow that knows only the archive's messages, a reader and a lake."""
