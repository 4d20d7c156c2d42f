"""What aiokafka lacks, put in place of parts of it: each is one explicit call, and goes when a release has it."""
