"""The models run on fakes of Triton's objects."""

import fake_backend_utils

fake_backend_utils.install()
