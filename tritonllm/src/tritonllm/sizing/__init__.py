"""Whether a model fits GPUs: the bytes of its weights and of its KV cache, and how many requests the rest is for.

`checkpoint` says what the files of a model hold, `attention` what its KV cache takes, and `memory` compares both with the
GPUs; `proposal` chooses engine arguments; all four are pure. `directory` reads files, and `endpoints` the weights of an
endpoint. What can't be known is said to be unknown, never guessed.
"""

from __future__ import annotations
