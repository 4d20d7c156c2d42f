"""What tests of principals share: a clock, principals in memory, signers of JWTs, a server of key sets."""
