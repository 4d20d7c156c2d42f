"""What an operator asks and decides: use-cases over ports, which the command line shares with every other outside."""
