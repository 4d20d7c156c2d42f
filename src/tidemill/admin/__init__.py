"""An operator's questions and decisions: use-cases over ports, shared by the command line and every other interface."""
