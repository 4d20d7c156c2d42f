"""An operator's questions and decisions about the archive."""
