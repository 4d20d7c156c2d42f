"""What the deployment knows: one folder per bounded context.

Each holds its messages, its rules, its tables and its read models, and says in its `__init__` what it is. Its schemas
and migrations stand in the top-level folders of that name. Contexts import `tidemill.api` and nothing else of Tidemill;
they do not know each other, and connect to nothing.
"""
