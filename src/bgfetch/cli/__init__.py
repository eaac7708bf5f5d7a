"""The command line."""

import gc

# What a command imports stays until it ends: looking through it for cycles again and again was a tenth of its start.
gc.set_threshold(50_000, 20, 50)
