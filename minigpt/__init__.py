"""minigpt: from bytes to a talking GPT, on a laptop CPU."""

import os

# Waiting OpenMP threads spin by default, which makes training 7 to 10 times slower as soon as another program wants a
# core. It has to be said before torch is imported, and whoever set it already is right.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
