"""What libcurl's errors mean, in one place: which word, and whether trying again may help.

Source: libcurl-errors(3). The numbers are libcurl's; pycurl names only some of them.
"""

from __future__ import annotations

import errno

from bgfetch.core.model import Fault

__all__ = ["disk_fault", "fault_of", "tunnel_fault"]

# CURLcode: kind, transient, what happened
_KINDS: dict[int, tuple[str, bool, str]] = {
    1: (
        "protocol",
        True,
        "the reply is not HTTP",
    ),  # HTTP/0.9: the schemes are checked before libcurl sees them
    3: ("url", False, "the URL cannot be used"),
    5: ("dns", True, "the proxy's name was not found"),
    6: ("dns", True, "the host's name was not found"),
    7: ("connect", True, "no connection could be made"),
    8: ("protocol", True, "the reply is not HTTP"),
    16: ("protocol", True, "the HTTP/2 framing was broken"),
    18: ("truncated", True, "the connection ended before the body did"),
    27: ("memory", True, "no memory was left for the connection"),
    28: ("connect", True, "no connection could be made in time"),
    35: ("tls", True, "the TLS handshake failed"),
    52: ("truncated", True, "the connection ended without a reply"),
    55: ("reset", True, "the connection broke while the request was sent"),
    56: ("reset", True, "the connection broke while bytes came"),
    60: ("certificate", False, "the server's certificate is not valid for it"),
    61: ("protocol", True, "the body's encoding was broken"),
    77: ("certificate", False, "the file of trusted certificates cannot be read"),
    92: ("protocol", True, "the HTTP/2 stream was broken"),
    94: ("auth", False, "signing in failed"),
    95: ("protocol", True, "the HTTP/3 framing was broken"),
    96: ("connect", True, "the QUIC connection failed"),
    97: ("proxy", True, "the proxy refused"),
    100: ("header-bomb", False, "the reply's head is larger than any honest one"),
}

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT}) if hasattr(errno, "EDQUOT") else frozenset({errno.ENOSPC})
_TOO_LARGE = frozenset({errno.EFBIG})  # also over the process's own limit (RLIMIT_FSIZE)
_FEW = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def fault_of(code: int, where: str) -> Fault:
    """The fault a libcurl result code stands for.

    Args:
        code: CURLcode, not 0.
        where: What was asked, as it may be shown.
    """
    kind, transient, sentence = _KINDS.get(
        code, ("transfer", True, f"the transfer failed (curl error {code})")
    )
    return Fault(kind, f"{where}: {sentence}", transient=transient)


def tunnel_fault(status: int, where: str) -> Fault:
    """The fault of a proxy that answers CONNECT with this status, and so refuses to lead to `where`."""
    if status == 407:
        return Fault("proxy", f"{where}: the proxy wants credentials; add them to the proxy setting")
    return Fault(
        "proxy", f"{where}: the proxy answered {status} instead of connecting", transient=status >= 500
    )


def disk_fault(error: OSError) -> Fault:
    """The fault a failed file operation stands for: a full disk pauses, too few descriptors pass, the rest is told."""
    text = error.strerror or str(error)
    if error.errno in _FULL:
        return Fault("disk-full", f"the disk is full ({text})", transient=True)
    if error.errno in _TOO_LARGE:
        return Fault("file-too-large", "this file system, or a limit of this process, allows no file so long")
    if error.errno in _FEW:
        return Fault("resources", f"this process ran out of something ({text})", transient=True)
    return Fault("disk", f"the disk refused ({text})", transient=True)
