"""URLs: how one is read, shown and redirected, and which addresses it may lead to.

The rule: every URL from outside, also each Location, goes through `parse_http_url`; credentials go to the origin
they were given for and to no other; a public server never sends us to a private one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, NamedTuple
from urllib.parse import quote

from bgfetch.core.model import Fault, Headers
from bgfetch.core.names import printable
from bgfetch.errors import InvalidRequest

__all__ = [
    "Hop",
    "address_scope",
    "allowed_address",
    "is_secret_header",
    "next_hop",
    "origin",
    "parse_http_url",
    "redacted",
]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}

# Fetch, "bad port": services that would take an HTTP request for their own protocol.
# fmt: off
_BAD_PORTS: Final = frozenset((
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530,
    531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190,
    5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
))
# fmt: on

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{0,5}))?")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_HOST: Final = re.compile(r"(?=.{1,254}\Z)(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
_V6_HOST: Final = re.compile(r"\[[0-9a-f:.]{2,45}\]", re.IGNORECASE)
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
# IDNA 2003, which Python speaks, and IDNA 2008, which browsers speak, make different hosts of these
_DEVIATING: Final = re.compile("[\u00df\u03c2\u200c\u200d\u1e9e]")

# What WHATWG URL leaves as it is in a path and in a query, "%" among it: encoding twice changes the name
_PATH_SAFE: Final = "!$%&'()*+,/:;=@[]|~"
_QUERY_SAFE: Final = "!$%&()*+,/:;=?@[\\]^`{|}~"

_SECRET: Final = re.compile(
    r"auth|cookie|token|secret|signature|passw|credential|session|bearer|jwt|csrf|xsrf|assertion|key(?:[-_]|\Z)",
    re.IGNORECASE,
)

# From the outside in; a redirect may lead outwards or stay, never further in (as in Private Network Access).
_DEPTH: Final = {"public": 0, "name": 0, "private": 1, "link-local": 2, "unspecified": 3, "loopback": 3}
_LOCAL_NAME: Final = re.compile(r"[^.\[]+\.?|.*\.(?:local|lan|internal|intranet|home\.arpa|localdomain)\.?")

# IANA special-purpose registries; a table of our own, for Python's differs from version to version.
_V4_SCOPES: Final = tuple(
    (IPv4Network(network), scope)
    for network, scope in (
        ("0.0.0.0/8", "unspecified"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("168.63.129.16/32", "link-local"),  # Azure's metadata server has a public address
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "private"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "private"),
        ("192.0.2.0/24", "private"),
        ("192.88.99.0/24", "private"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "private"),
        ("198.51.100.0/24", "private"),
        ("203.0.113.0/24", "private"),
        ("224.0.0.0/3", "private"),
    )
)
_V6_SCOPES: Final = tuple(
    (IPv6Network(network), scope)
    for network, scope in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("fe80::/10", "link-local"),
        ("2001::/23", "private"),
        ("2001:db8::/32", "private"),
        ("3fff::/20", "private"),
        ("2000::/3", "public"),
        ("::/0", "private"),
    )
)
_V4_IN_V6: Final = tuple(  # where the IPv4 address sits: bits to its right
    (IPv6Network(network), right)
    for network, right in (("::ffff:0:0/96", 0), ("64:ff9b::/96", 0), ("::/96", 0), ("2002::/16", 80))
)


class _Parts(NamedTuple):
    """A reference cut in parts; None is absent, which is not the same as empty."""

    scheme: str | None
    authority: str | None
    path: str
    query: str | None


@dataclass(frozen=True, slots=True)
class Hop:
    """The next request of a chain of redirects.

    Args:
        url: Normalised absolute URL.
        headers: The request headers that may go there; give these, not the first ones, to the next `next_hop`.
    """

    url: str
    headers: Headers


def parse_http_url(text: str) -> str:
    """The absolute URL in its one normal form.

    Scheme and host in lower case, the host in ASCII, a numeric IPv4 host as four decimals; no default port, no
    fragment, no dot segments; "/" for an empty path; blanks and other illegal characters percent-encoded, existing
    percent-encoding untouched (a signed URL stays signed). The result passes through unchanged.

    Raises:
        InvalidRequest: What is wrong with it; never with the credentials or the query in the message.

    Source: WHATWG URL 4.4; WHATWG Fetch 2.9 "bad port" and "potentially dangling markup" (refused with any newline).
    """
    scheme, host, port, parts = _located(text)
    shown_port = "" if port == _DEFAULT_PORTS[scheme] else f":{port}"
    path = quote(_without_dots(parts.path), safe=_PATH_SAFE)
    query = "" if parts.query is None else "?" + quote(parts.query, safe=_QUERY_SAFE)
    return f"{scheme}://{host}{shown_port}{path}{query}"


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port that a URL belongs to, the default port included.

    Raises:
        InvalidRequest: As `parse_http_url`.
    """
    return _located(url)[:3]


def redacted(url: str) -> str:
    """The URL, or what was meant to be one, fit to be shown: no user, password, query or fragment, no controls.

    Of a broken authority only what comes before its first colon is kept: a password may follow it. At most 200
    characters and an ellipsis.
    """
    parts = _split(url)
    if parts.authority is None:  # "user:password@host/path" and "data:..." are read as a scheme and a path
        shown = re.split("[?#]", url, maxsplit=1)[0].rpartition("@")[2].partition(",")[0]
    else:
        scheme = "" if parts.scheme is None else f"{parts.scheme}:"
        host = parts.authority.rpartition("@")[2]
        whole = _AUTHORITY.fullmatch(host) is not None
        shown = f"{scheme}//{host}{parts.path}" if whole else f"{scheme}//{host.partition(':')[0]}"
    return printable(shown if len(shown) <= 200 else f"{shown[:200]}…")


def is_secret_header(name: str) -> bool:
    """Whether a request header of this name may carry a credential. In doubt it does."""
    return _SECRET.search(name) is not None


def next_hop(
    request_url: str, location: str, headers: Headers, *, granted_to: str, hops: int, max_hops: int = 10
) -> Hop | Fault:
    """Where a redirect leads, or why it is not followed.

    Args:
        request_url: The URL that answered with the redirect.
        location: The Location field's value.
        headers: The headers of that request; each hop only ever loses some, so none comes back when the chain does.
        granted_to: The URL that secret headers were given for: the first of the chain.
        hops: Redirects followed before this one, >= 0.
        max_hops: Most redirects to follow.

    Returns:
        The next request, or a fault of kind "redirect-loop", "redirect-scheme", "redirect-private" or
        "redirect-invalid". Only "redirect-private" over plain http is transient: so does a captive portal answer.

    Source: RFC 9110 sections 10.2.2 and 15.4; WHATWG Fetch, HTTP-redirect fetch.
    """
    if hops >= max_hops:
        return Fault(
            "redirect-loop",
            f"too many redirects (more than {max_hops}), the last from {redacted(request_url)}",
        )
    location = location.strip(" ")
    if _split(location).scheme not in (None, *_DEFAULT_PORTS):
        return _refused("redirect-scheme", request_url, location, "only http and https are followed")
    try:
        target = parse_http_url(_resolved(request_url, location))
    except InvalidRequest as error:
        return Fault("redirect-invalid", f"{redacted(request_url)} redirects nowhere useful: {error}")
    if request_url.startswith("https:") and target.startswith("http:"):
        return _refused("redirect-scheme", request_url, target, "https never falls back to http")
    if _leads_inwards(request_url, target):
        fault = _refused("redirect-private", request_url, target, "that address is not public")
        return replace(fault, transient=request_url.startswith("http:"))
    return Hop(target, _headers_for(target, request_url, headers, granted_to=granted_to))


@lru_cache(maxsize=256)  # each connection, proxy rule and redirect asks about the same few
def address_scope(host_or_ip: str) -> str:
    """How far away an address is: "public", "private", "loopback", "link-local", "unspecified", or "name".

    "name" is a host that only the DNS can place. "private" is whatever the Internet does not route: RFC 1918, shared,
    unique local, documentation, multicast, reserved. An IPv4 address counts in every spelling that some resolver
    takes for one, and inside IPv4-mapped, IPv4-compatible, NAT64 and 6to4 addresses. localhost is loopback.

    Source: IANA special-purpose address registries; WHATWG URL 3.5; RFC 6761 section 6.3; RFC 6052; RFC 3056.
    """
    text = host_or_ip.strip("[]").partition("%")[0]  # a peer may be fe80::1%eth0
    try:
        host = _host(f"[{text}]" if ":" in text else text)
    except InvalidRequest:
        return "name"
    if host.startswith("["):
        return _v6_scope(IPv6Address(host[1:-1]))
    address = _v4(host)
    if address is not None:
        return _v4_scope(address)
    return "loopback" if re.fullmatch(r"(?:.*\.)?localhost\.?", host) else "name"


def allowed_address(ip: str, *, named_by_person: bool, came_from_public: bool) -> bool:
    """Whether a connection to this address may be used; asked of the connected socket, for names change their mind.

    A public address always. Any other only when a person named the URL that the chain began with, and nothing before
    in this download was at a public address: neither an earlier hop, nor the same name a moment ago (DNS rebinding).
    Not to be asked when the peer is a proxy.

    Args:
        ip: Of the peer; a host name that only the DNS can place is refused.
        named_by_person: A person gave the first URL: not a manifest, a page or a reply.
        came_from_public: An earlier hop or connection of this record reached a public address.
    """
    scope = address_scope(ip)
    if scope in ("public", "name"):
        return scope == "public"
    return named_by_person and not came_from_public


def _split(text: str) -> _Parts:
    """The reference in parts; every text has them (RFC 3986 section 5.2.2 and appendix B)."""
    rest, asks, query = text.partition("#")[0].partition("?")
    scheme, colon, after = rest.partition(":")
    named = bool(colon) and _SCHEME.fullmatch(scheme) is not None
    rest = after if named else rest
    authority: str | None = None
    if rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        rest = slash + path
    return _Parts(scheme.lower() if named else None, authority, rest, query if asks else None)


def _located(text: str) -> tuple[str, str, int, _Parts]:
    """Scheme, host and port of a URL in their normal form, and its parts as they were given."""
    text = text.strip(" ")
    if _CONTROLS.search(text):
        raise InvalidRequest(f"a URL holds no line breaks, tabs or control characters: {redacted(text)}")
    parts = _split(text)
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidRequest(f"not an http:// or https:// URL: {redacted(text)}")
    if not parts.authority:
        raise InvalidRequest(f"the URL names no host: {redacted(text)}")
    if "@" in parts.authority:
        raise InvalidRequest(
            f"a URL holds no user or password, send an Authorization header: {redacted(text)}"
        )
    match = _AUTHORITY.fullmatch(parts.authority)
    if match is None:
        raise InvalidRequest(f"the URL's port is not a number up to 65535: {redacted(text)}")
    return parts.scheme, _host(match[1]), _port(match[2] or "", scheme=parts.scheme, url=text), parts


@lru_cache(maxsize=256)  # a thousand URLs name the same few hosts
def _host(host: str) -> str:
    """The host in its normal form: ASCII, lower-case, or an address in its one spelling."""
    if host.startswith("["):
        return _v6_host(host)
    name = host.lower()
    if not name.isascii():
        name = _ascii_host(name)
    if not _HOST.fullmatch(name):
        raise InvalidRequest(f"not the name of a host: {printable(host)[:80]!r}")
    last = name.removesuffix(".").rpartition(".")[2]
    if not _NUMBER.fullmatch(last):
        return name
    address = _v4(name)
    if address is None:
        raise InvalidRequest(f"not an IPv4 address: {name!r}")
    return str(address)


def _ascii_host(name: str) -> str:
    """An international name in ASCII (RFC 3490)."""
    if len(name) <= 253 and not _DEVIATING.search(name):  # the codec takes the square of the length
        try:
            return name.encode("idna").decode("ascii").lower()
        except UnicodeError:
            pass
    raise InvalidRequest(
        f"this host has no one spelling in ASCII, write its xn-- form: {printable(name)[:80]!r}"
    )


def _v6_host(host: str) -> str:
    """An IPv6 address in brackets, shortened; IPv4-mapped ones in hex, which Python 3.13 would write otherwise."""
    try:
        address = IPv6Address(host[1:-1] if _V6_HOST.fullmatch(host) else "")
    except ValueError:
        raise InvalidRequest(f"not an IPv6 address: {printable(host)[:80]!r}") from None
    low = int(address) & 0xFFFFFFFF
    return f"[::ffff:{low >> 16:x}:{low & 0xFFFF:x}]" if address.ipv4_mapped is not None else f"[{address}]"


def _v4(host: str) -> IPv4Address | None:
    """The address that a numeric host means: 1 to 4 numbers, decimal, octal or hex; None when it is none."""
    labels = host.removesuffix(".").split(".")
    if len(labels) > 4 or not all(_NUMBER.fullmatch(label) for label in labels):
        return None
    try:
        numbers = [_number(label) for label in labels]
    except ValueError:  # 08: octal by its zero and yet no octal number
        return None
    room = 256 ** (5 - len(numbers))
    if numbers[-1] >= room or any(number > 255 for number in numbers[:-1]):
        return None
    value = numbers[-1]
    for index, number in enumerate(numbers[:-1]):
        value += number << (8 * (3 - index))
    return IPv4Address(value)


def _number(label: str) -> int:
    """One number of an IPv4 spelling; "0x" is 0 (WHATWG URL, IPv4 number parser)."""
    if label[:2] in ("0x", "0X"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if label.startswith("0") else 10)


def _v4_scope(address: IPv4Address) -> str:
    """The scope of an IPv4 address."""
    return next((scope for network, scope in _V4_SCOPES if address in network), "public")


def _v6_scope(address: IPv6Address) -> str:
    """The scope of an IPv6 address, or of the IPv4 address inside it."""
    if int(address) > 1:  # :: and ::1 would be IPv4-compatible
        for network, right in _V4_IN_V6:
            if address in network:
                return _v4_scope(IPv4Address(int(address) >> right & 0xFFFFFFFF))
    return next(scope for network, scope in _V6_SCOPES if address in network)


def _port(port: str, *, scheme: str, url: str) -> int:
    """The port, the scheme's own when none is given."""
    number = int(port or _DEFAULT_PORTS[scheme])
    if number > 65535:
        raise InvalidRequest(f"the URL's port is not a number up to 65535: {redacted(url)}")
    if number in _BAD_PORTS:
        raise InvalidRequest(f"port {number} is not for HTTP, the Fetch standard blocks it: {redacted(url)}")
    return number


def _without_dots(path: str) -> str:
    """The path with "." and ".." carried out, also when percent-encoded (WHATWG URL, path state)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for index, segment in enumerate(segments):
        plain = re.sub("%2e", ".", segment, flags=re.IGNORECASE) if len(segment) <= 6 else segment
        if plain not in (".", ".."):
            kept.append(segment)
            continue
        if plain == "..":
            del kept[-1:]
        if index == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)


def _resolved(base: str, reference: str) -> str:
    """The reference made absolute (RFC 3986 section 5.2.2); dot segments are left to `parse_http_url`."""
    here, there = _split(base), _split(reference)
    if not reference:
        raise InvalidRequest("its Location is empty")
    if there.scheme is not None:
        return reference
    if there.authority is not None:
        return f"{here.scheme}:{reference}"
    path = there.path
    if not path.startswith("/"):
        path = here.path.rpartition("/")[0] + "/" + path if path else here.path
    query = there.query if there.path or there.query is not None else here.query
    return f"{here.scheme}://{here.authority}{path}" + ("" if query is None else f"?{query}")


def _leads_inwards(request_url: str, target: str) -> bool:
    """Whether a redirect goes to an address literal further in than where it comes from.

    A host that only the DNS can place is not judged as a target: `allowed_address` is, once it is connected.
    """
    _, here, _ = origin(request_url)
    depth = _DEPTH[address_scope(here)]
    if _LOCAL_NAME.fullmatch(here):
        depth = max(depth, _DEPTH["private"])
    return _DEPTH[address_scope(origin(target)[1])] > depth


def _headers_for(target: str, request_url: str, headers: Headers, *, granted_to: str) -> Headers:
    """The headers that may go to the target: all at home, elsewhere none that is secret or names the old host."""
    if origin(target) == origin(request_url) == origin(granted_to):
        return headers
    return Headers(
        (name, value) for name, value in headers.pairs if name != "host" and not is_secret_header(name)
    )


def _refused(kind: str, request_url: str, location: str, why: str) -> Fault:
    """A redirect that is not followed, in words."""
    return Fault(kind, f"{redacted(request_url)} redirects to {redacted(location)}: {why}")
