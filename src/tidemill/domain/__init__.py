"""2 decide: the pure vocabulary of every other part. No I/O, no clock, no driver."""
