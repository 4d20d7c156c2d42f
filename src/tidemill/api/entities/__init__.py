"""Entities: aggregates that are declared by one class of fields.

From the class follow commands and events (`messages`), the row and its table (`rows`), the rules (`rules`) and the
context (`declaration`). Every piece is one of those that a context may also write by hand.
"""
