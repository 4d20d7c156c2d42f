"""What every process stands on: services, periodic looks, retries, clocks, threads, telemetry. Knows no workflow."""
