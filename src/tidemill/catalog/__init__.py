"""0 prepare: policy and ports of what must exist before a command flows: schemas, migrations, hypertables."""
