"""3 out: the relay. Sends what committed, in order, once; runs any stream."""
