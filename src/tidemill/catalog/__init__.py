"""0 prepare: policy and ports of what must be there before a command flows: schemas, migrations, hypertables."""
