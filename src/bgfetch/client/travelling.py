"""Which variables of a client's environment count for what it asks for, wherever that is run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["travelling"]

_NAMES: Final = frozenset({
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC",
})  # fmt: skip
_PREFIXES: Final = ("HF_", "HUGGING_FACE_HUB_")


def travelling(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that say by which way, with which certificates and as whom a client is used to fetch."""
    return {name: value for name, value in environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
