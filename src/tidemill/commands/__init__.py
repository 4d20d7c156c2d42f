"""1 intake: one transaction per batch, rejections. Runs any stream; knows no context, no driver."""
