"""Records of topics, sent by hand and shown to people."""
