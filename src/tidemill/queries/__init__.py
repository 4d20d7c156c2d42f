"""5 answer: read models, entities and facts, read by name. Nothing here writes."""
