"""An operator's reading and sending by hand."""
