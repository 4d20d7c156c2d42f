"""`python -m tidemill.devstack up|down`."""

import sys

from tidemill.devstack.progress import shown
from tidemill.devstack.stack import down, up

with shown() as progress:
    if sys.argv[1] == "up":
        stack = up(progress=progress)
        sys.stdout.write(f"export TIDEMILL_DATABASE_URL={stack.database_url}" + "\n")
        sys.stdout.write(f"export TIDEMILL_KAFKA_BOOTSTRAP={stack.kafka_bootstrap}" + "\n")
        sys.stdout.write(f"export TIDEMILL_REGISTRY_URL={stack.registry_url}" + "\n")
    else:
        sys.stdout.write(f"{down(progress=progress, purge='--purge' in sys.argv)}\n")
