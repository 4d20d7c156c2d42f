"""The archive's vocabulary: its messages, slices, digest and policies. Pure."""
