"""Tidemill: a CQRS database service for TimescaleDB that is driven by Kafka.

The package is read from the outside in: `cli` knows `app`, `app` joins the adapters (`storage`, `transport`) to the
workflows (`commands`, `outbox`, `projections`, `queries`), and all of them speak the vocabulary of `domain`.
"""

__version__ = "0.8.2"
