"""Fetch a file and print its path: `python examples/01_get.py URL [SHA256]`.

Kill it on the way and run it again: it goes on. Run it once more: it has the file.
"""

import sys

import bgfetch


def show(progress: bgfetch.Progress) -> None:
    """Say how it stands, on one line."""
    print(f"{progress.downloaded:,} of {progress.download_total:,} bytes", end="\r", file=sys.stderr)


url, sha256 = [*sys.argv[1:], ""][:2]
path = bgfetch.get(url, sha256=sha256, progress=show)
print(path)
