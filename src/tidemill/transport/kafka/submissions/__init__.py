"""Commands that came by HTTP: sent, and their replies received."""
