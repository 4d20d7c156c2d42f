"""What an operator reads and sends by hand."""
