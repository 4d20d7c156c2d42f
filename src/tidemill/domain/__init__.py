"""2 decide: the pure vocabulary every other part speaks. No I/O, no clock, no driver."""
