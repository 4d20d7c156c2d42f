"""4 project: fold events into read models, with a checkpoint per lane in the read model's own transaction."""
