"""`python -m tidemill.settings` prints the page that lists every variable."""

import sys

from tidemill.settings import settings_page

sys.stdout.write(settings_page())
