"""Digests: what a body must hash to, where that was learnt, and how it is computed.

The rule: a `Digest` that exists is well formed, so that its hex may be part of a path; what a server says about
digests is ignored when malformed, what a person says is refused with the reason.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import blake3
import google_crc32c

from bgfetch.core.model import Headers
from bgfetch.core.names import printable
from bgfetch.errors import InvalidRequest

__all__ = [
    "ALGORITHMS",
    "Data",
    "Digest",
    "Hasher",
    "digest_from_sums",
    "digest_prefix_from_name",
    "digests_from_headers",
    "matches_prefix",
    "new_hasher",
    "strongest",
]

Data: TypeAlias = bytes | bytearray | memoryview

# Length in bytes; strongest first. blake3 is as hard to forge as sha256, which more tools can check.
ALGORITHMS: dict[str, int] = {"sha512": 64, "sha256": 32, "blake3": 32, "sha1": 20, "md5": 16, "crc32c": 4}
_STRENGTH = tuple(ALGORITHMS)

# Names in Digest and Repr-Digest fields (IANA, "Hash Algorithms for HTTP Digest Fields").
_FIELD_NAMES = {"sha-512": "sha512", "sha-256": "sha256", "sha": "sha1", "md5": "md5", "crc32c": "crc32c"}
_MEMBER = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*(?:;[^,]*)?(?:,|\Z)")

_GNU_LINE = re.compile(r"([0-9A-Fa-f]+)(?: [ *]|\s+)(.+)")
_BSD_LINE = re.compile(r"([A-Za-z0-9-]+) ?\((.+)\) ?= ?([0-9A-Fa-f]+)")
_TORCH_NAME = re.compile(r"-([a-f0-9]{8,64})\.(?:pth|pt|th)(?:\.tar)?\Z")


@dataclass(frozen=True, slots=True)
class Digest:
    """A checksum and how it was computed.

    Args:
        algorithm: A key of `ALGORITHMS`.
        value: As many bytes as `ALGORITHMS` says.

    Raises:
        InvalidRequest: The algorithm is unknown or the length is wrong.
    """

    algorithm: str
    value: bytes

    def __post_init__(self) -> None:
        expected = ALGORITHMS.get(self.algorithm)
        if expected is None:
            known = ", ".join(ALGORITHMS)
            raise InvalidRequest(f"unknown digest {printable(self.algorithm)[:40]!r}; known are {known}")
        if len(self.value) != expected:
            raise InvalidRequest(
                f"a {self.algorithm} digest has {expected * 2} hex digits, this one has {len(self.value) * 2}"
            )

    @classmethod
    def parse(cls, text: str, *, algorithm: str = "") -> Digest:
        """The digest that "sha256:HEX" names, or bare hex when `algorithm` says what it is.

        Letter case and blanks around it do not matter; "SHA-256" is sha256.

        Raises:
            InvalidRequest: Unknown or contradicting algorithm, not hex, wrong length; the message says which.
        """
        before, colon, after = text.strip().rpartition(":")
        named, asked = _plain_name(before), _plain_name(algorithm)
        if colon and asked and named != asked:
            raise InvalidRequest(f"a {asked} digest was expected, this one says {printable(before)[:40]!r}")
        if not named and not asked:
            raise InvalidRequest(
                f"say which digest it is, as in sha256:HEX; known are {', '.join(ALGORITHMS)}"
            )
        hexadecimal = after.strip()
        length = ALGORITHMS.get(named or asked, 0) * 2
        if length and len(hexadecimal) != length:
            raise InvalidRequest(
                f"a {named or asked} digest has {length} hex digits, this one has {len(hexadecimal)} characters"
            )
        if length and not re.fullmatch("[0-9A-Fa-f]+", hexadecimal):
            raise InvalidRequest(f"this {named or asked} digest is not hexadecimal (0-9, a-f)")
        return cls(named or asked, bytes.fromhex(hexadecimal) if length else b"")

    @property
    def hex(self) -> str:
        """Lower-case hexadecimal, fit to be part of a path."""
        return self.value.hex()

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"


class Hasher(Protocol):
    """A digest in the making."""

    def update(self, data: Data, /) -> object:
        """Take the next bytes of the body, in order."""

    def digest(self) -> bytes:
        """The digest of all bytes so far; more may follow."""


class _Crc32c:
    """CRC-32C as a hasher; four bytes, most significant first, as GCS and S3 write it."""

    __slots__ = ("_value",)

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: Data, /) -> None:
        self._value = int(google_crc32c.extend(self._value, bytes(data)))  # it takes nothing but bytes

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


# md5 and sha1 only find accidents here, so that a FIPS build of OpenSSL may allow them
_HASHERS: dict[str, Callable[[], Hasher]] = {
    "sha512": hashlib.sha512,
    "sha256": hashlib.sha256,
    "blake3": blake3.blake3,
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "crc32c": _Crc32c,
}


def new_hasher(algorithm: str) -> Hasher:
    """An empty hasher for a key of `ALGORITHMS`.

    Raises:
        InvalidRequest: The algorithm is unknown.
    """
    if algorithm not in _HASHERS:
        raise InvalidRequest(
            f"unknown digest {printable(algorithm)[:40]!r}; known are {', '.join(ALGORITHMS)}"
        )
    return _HASHERS[algorithm]()


def strongest(digests: Iterable[Digest]) -> Digest | None:
    """The digest that is hardest to forge, or None of none; of two of a kind the first."""
    return min(digests, key=lambda digest: _STRENGTH.index(digest.algorithm), default=None)


def digests_from_headers(headers: Headers, *, status: int) -> tuple[Digest, ...]:
    """What a reply says its whole representation hashes to, strongest first, each once.

    Two digests of one algorithm that differ are both given: such a server contradicts itself and no body will do.
    Content-Digest is not read, for it describes one message. Malformed fields count for nothing.

    Args:
        headers: Of the reply.
        status: Of the reply. `Digest` (RFC 3230) and S3 checksums are read on 200 only, since servers send that of
            the part with a 206; X-Linked-Etag is read on redirects too, that being where Hugging Face sends it.

    Source: RFC 9530 section 3; RFC 3230 section 4.3.2; Google Cloud Storage, "x-goog-hash"; Amazon S3, "Checking
    object integrity"; Hugging Face Hub, "X-Linked-Etag".
    """
    found: list[Digest] = []
    if status in (200, 206):
        found += _repr_digest(headers.get("repr-digest", ""))
        found += _goog_hash(headers)
    if status == 200:
        found += _named_base64(headers.get("digest", ""))
        found += _amz_checksums(headers)
    if status < 400:
        linked = re.fullmatch('"?([0-9a-fA-F]{64})"?', headers.get("x-linked-etag", ""))
        found += [Digest("sha256", bytes.fromhex(linked[1]))] if linked else []
    return tuple(sorted(dict.fromkeys(found), key=lambda digest: _STRENGTH.index(digest.algorithm)))


def digest_from_sums(text: str, filename: str, algorithm: str) -> Digest | None:
    """The digest that a sidecar (`file.sha256`) or a list (`SHA256SUMS`) gives for a file, or None.

    Reads "HEX", "HEX  name", "HEX *name" and "SHA256 (name) = HEX". Names must be equal, a leading "./" aside; hex
    alone on the only line, or with the name "-" (standard input), is for whatever file was asked.

    Args:
        text: The file's contents; the caller bounds its size.
        filename: The name as the list spells it.
        algorithm: A key of `ALGORITHMS`; lines of other digests are passed over.
    """
    lines = [line.strip() for line in text.lstrip("\ufeff").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        name, hexadecimal = _sums_line(line, algorithm)
        if name.removeprefix("./") == filename or (len(lines) == 1 and name in ("", "-")):
            digest = _digest_or_none(algorithm, _bytes_of_hex(hexadecimal))
            if digest is not None:
                return digest
    return None


def digest_prefix_from_name(filename: str) -> str | None:
    """The first hex digits of the sha256 that a checkpoint's name carries ("resnet18-f37072fd.pth"), or None.

    Eight decimal digits are taken for a date, not for a prefix.

    Source: torch.hub, HASH_REGEX and download_url_to_file's `hash_prefix`.
    """
    match = _TORCH_NAME.search(filename)
    if match is None or (len(match[1]) == 8 and match[1].isdigit()):
        return None
    return match[1]


def matches_prefix(digest: Digest, prefix: str) -> bool:
    """Whether this is a sha256 that starts with these lower-case hex digits."""
    return digest.algorithm == "sha256" and digest.hex.startswith(prefix)


def _plain_name(algorithm: str) -> str:
    """The name without its decorations: "SHA-256" and "sha2-256" are sha256."""
    return re.sub("^sha(?:2-|-)", "sha", algorithm.strip().lower())


def _digest_or_none(algorithm: str, value: bytes | None) -> Digest | None:
    """A digest from a stranger, or None when it is not one."""
    if value is None or ALGORITHMS.get(algorithm) != len(value):
        return None
    return Digest(algorithm, value)


def _bytes_of_base64(text: str) -> bytes | None:
    """The bytes, or None when this is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None


def _bytes_of_hex(text: str) -> bytes | None:
    """The bytes, or None when this is not hex."""
    return bytes.fromhex(text) if re.fullmatch("(?:[0-9A-Fa-f]{2})+", text) else None


def _repr_digest(value: str) -> Iterator[Digest]:
    """RFC 9530: a dictionary of byte sequences; one bad member makes the whole field void (RFC 9651 section 4.2)."""
    members: dict[str, str] = {}
    position = 0
    while position < len(value):
        match = _MEMBER.match(value, position)
        if match is None:
            return
        members[match[1]] = match[2]
        position = match.end()
    for name, encoded in members.items():
        digest = _digest_or_none(_FIELD_NAMES.get(name, ""), _bytes_of_base64(encoded))
        if digest is not None:
            yield digest


def _named_base64(value: str) -> Iterator[Digest]:
    """RFC 3230 and x-goog-hash: "name=BASE64, name=BASE64"."""
    for member in value.split(","):
        name, _, encoded = member.strip().partition("=")
        digest = _digest_or_none(_FIELD_NAMES.get(name.lower(), ""), _bytes_of_base64(encoded))
        if digest is not None:
            yield digest


def _goog_hash(headers: Headers) -> Iterator[Digest]:
    """x-goog-hash, which is of the bytes as stored: void when the server decompresses them on the way."""
    if headers.get("x-goog-stored-content-encoding", "identity").lower() == "identity":
        yield from _named_base64(headers.get("x-goog-hash", ""))


def _amz_checksums(headers: Headers) -> Iterator[Digest]:
    """x-amz-checksum-NAME, unless it is a checksum of the checksums of parts."""
    if headers.get("x-amz-checksum-type", "FULL_OBJECT").upper() != "FULL_OBJECT":
        return
    for algorithm in ALGORITHMS:
        # "BASE64-N", a composite without the type field, is no base64 and so is passed over
        encoded = headers.get(f"x-amz-checksum-{algorithm}", "")
        digest = _digest_or_none(algorithm, _bytes_of_base64(encoded))
        if digest is not None:
            yield digest


def _sums_line(line: str, algorithm: str) -> tuple[str, str]:
    """The name ("" for hex alone) and the hex of a line; no hex when the line is something else."""
    if bsd := _BSD_LINE.fullmatch(line):
        return bsd[2], bsd[3] if _plain_name(bsd[1]) == algorithm else ""
    if gnu := _GNU_LINE.fullmatch(line):
        return gnu[2], gnu[1]
    return "", line
