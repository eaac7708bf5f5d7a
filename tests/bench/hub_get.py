"""The peer huggingface_hub as its users call it: one file of a repository, its path printed.

Usage: python tests/bench/hub_get.py CACHE; HF_ENDPOINT names the hub.
"""

from __future__ import annotations

import sys

from huggingface_hub import hf_hub_download

if __name__ == "__main__":
    print(hf_hub_download("bench/model", "model.bin", cache_dir=sys.argv[1]))
