"""`python -m tidemill` and the program `tidemill` are the same."""

from tidemill.cli.program import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
