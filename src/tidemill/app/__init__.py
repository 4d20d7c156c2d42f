"""The composition root: joins settings, adapters and contexts. No other folder names an adapter.

One file per process in `processes`; `admin` opens the use-cases of operators.
"""
