"""Records of topics, sent by hand and read by people."""
