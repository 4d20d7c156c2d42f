"""3 publish: the relay. Sends committed events, in order, once; runs any stream."""
