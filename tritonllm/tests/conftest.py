"""What every test can rely on."""

import signal

# A shell starts what it puts in the background with SIGINT ignored, and everything below inherits that: the
# tests of Ctrl-C would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)
