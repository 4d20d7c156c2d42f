"""The basis of every process: services, periodic work, retries, clocks, threads, telemetry. Knows no workflow."""
