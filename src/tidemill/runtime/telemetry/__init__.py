"""What a process tells about itself: metrics, log events, and how logs are written."""
