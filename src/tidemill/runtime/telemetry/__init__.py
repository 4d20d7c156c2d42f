"""The telemetry of a process: metrics, log events, and how logs are written."""
