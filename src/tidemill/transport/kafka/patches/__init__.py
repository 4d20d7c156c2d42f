"""Patches of aiokafka: each is one explicit call, and is removed when a release makes it unnecessary."""
