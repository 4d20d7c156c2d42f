"""2 decide: what must stay secret: keys, encrypted values, and who may try how often."""
