"""The composition root: joins settings, adapters and contexts into processes and tasks. Nobody else names an adapter.

One file per process (`commands_process`, `projections_process`, `all`) and per kind of task; `cli` knows only these.
"""
