"""`python -m tidemill.devstack up|down [--purge]`, for whoever has no command line installed yet."""

import sys

from tidemill.devstack.progress import shown
from tidemill.devstack.stack import down, up

with shown() as progress:
    if sys.argv[1:2] == ["up"]:
        stack = up(progress=progress)
        addresses = (stack.database_url, stack.kafka_bootstrap, stack.registry_url)
        sys.stdout.write("\n".join(str(address) for address in addresses) + "\n")
    else:
        down(progress=progress, purge="--purge" in sys.argv)
