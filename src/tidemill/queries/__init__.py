"""5 answer: read models, read by key. Nothing here writes."""
