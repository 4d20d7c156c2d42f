"""1 in: intake -> one transaction per batch -> rejection. Runs any stream; knows no context, no driver."""
