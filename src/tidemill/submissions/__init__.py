"""1 in, from outside: a command that a client sends by HTTP, until its outcome is known.

A document or a command's fields become a command (`documents`), which is journalled, produced and waited for
(`sender`, `waits`). The reply of the lane is a hint; the log of the database is the truth.
"""
