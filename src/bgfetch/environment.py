"""Which of a client's environment variables travel with what it asks for, and which of them may be stored.

The daemon was started in some other shell, so its own variables say nothing about the proxy, the certificates or the
account this client fetches with. The rule kept: what may be a secret is sent, used and forgotten, never stored. Of a
proxy with a password the address is stored, so that nobody goes around it after a restart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["harmless", "secrets_of", "travelling", "without_secrets"]

PROXIES: Final = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}
)
_NETWORK: Final = PROXIES | {
    "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC",
}  # fmt: skip
_SOURCES: Final = frozenset({
    "DO_NOT_TRACK", "TRANSFORMERS_OFFLINE", "GOOGLE_APPLICATION_CREDENTIALS", "DOCKER_CONFIG", "MODEL_ENDPOINT",
    "TORCH_HOME", "LLAMA_CACHE", "XDG_CACHE_HOME",
})  # fmt: skip
_PREFIXES: Final = ("HF_", "HUGGING_FACE_HUB_", "OLLAMA_", "KAGGLE", "MODELSCOPE_", "AWS_")

_SECRET: Final = re.compile(r"TOKEN|SECRET|PASSW|(?:^|_)KEY|KEY_ID|CREDENTIAL|AUTH|COOKIE|SIGNATURE")
_PLACE: Final = re.compile(
    r"_(?:PATH|FILE|DIR|HOME|CACHE|URI|URL|ENDPOINT|CONFIG)$|^GOOGLE_APPLICATION_CREDENTIALS$"
)
_SWITCH: Final = re.compile(
    r"[01]|on|off|yes|no|true|false|", re.IGNORECASE
)  # HF_HUB_DISABLE_IMPLICIT_TOKEN=1
_KEYLESS: Final = frozenset({"SSH_AUTH_SOCK", "XAUTHORITY", "ICEAUTHORITY"})
_PASSWORD: Final = re.compile(r"//[^/?#@\s]*:[^@\s]*@")
_USER: Final = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//[^/?#]*@|^[^/?#]*@", re.IGNORECASE)


def travelling(environ: Mapping[str, str]) -> dict[str, str]:
    """Those that say by which way, with which certificates and as whom a client is used to fetch.

    Source: curl(1), "ENVIRONMENT"; huggingface_hub, "Environment variables".
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _NETWORK or name in _SOURCES or name.startswith(_PREFIXES)
    }


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """What of travelling variables may be stored: no tokens, no keys, and addresses without user and password."""
    return {
        name: _without_user(name, value) for name, value in environment.items() if not _is_secret(name, value)
    }


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The rest: what only memory may hold. With `without_secrets` of the same it makes up the whole again."""
    return {
        name: value
        for name, value in environment.items()
        if _is_secret(name, value) or _without_user(name, value) != value
    }


def harmless(environ: Mapping[str, str]) -> dict[str, str]:
    """What of an environment a process may inherit that outlives, or is not of, whoever has it: nothing that looks secret.

    By name, such as OPENAI_API_KEY, or by what it holds: an address with a password in it. Sockets and files that others
    are asked with, such as SSH_AUTH_SOCK and XAUTHORITY, are none: they open nothing to another user.
    """
    return {
        name: value
        for name, value in environ.items()
        if name in _KEYLESS or not (_is_secret(name, value) or _PASSWORD.search(value))
    }


def _is_secret(name: str, value: str) -> bool:
    upper = name.upper()
    return bool(_SECRET.search(upper)) and not _PLACE.search(upper) and not _SWITCH.fullmatch(value)


def _without_user(name: str, value: str) -> str:
    """An address without its user and password, also one written without a scheme, as proxies are."""
    match = _USER.match(value)
    if match is None and not (name in PROXIES and "@" in value):
        return value
    # A password may hold what only looks like its end; of a proxy there is nothing after the host that matters.
    scheme = re.match(r"(?:[a-z][a-z0-9+.-]*:)?//|", value, re.IGNORECASE)
    start = scheme.end() if scheme is not None else 0
    end = len(value) if name in PROXIES else start + len(re.split(r"[/?#]", value[start:], maxsplit=1)[0])
    return value[:start] + value[value.rindex("@", start, end) + 1 :]
