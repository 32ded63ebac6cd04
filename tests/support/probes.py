"""One process to try heads in, for all tests of this process."""

import atexit

from services.serving.probe import Probe

PROBE = Probe()
atexit.register(PROBE.close)
