"""Digests: read from people, replies, sidecars and names; computed over bytes."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.core.digests import (
    ALGORITHMS,
    Digest,
    digest_from_sums,
    digest_prefix_from_name,
    digests_from_headers,
    matches_prefix,
    new_hasher,
    strongest,
)
from bgfetch.core.model import Headers
from bgfetch.errors import InvalidRequest

# Of the nine bytes "123456789", the customary check value of a CRC.
CHECK = {
    "sha512": "d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f1176d0c29169bc24e71c3f274a"
    "d27fcd5811b313d681f7e55ec02d73d499c95455b6b5bb503acf574fba8ffe85",
    "sha256": "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    "blake3": "b7d65b48420d1033cb2595293263b6f72eabee20d55e699d0df1973b3c9deed1",
    "sha1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
    "md5": "25f9e794323b453885f5181f1b624d0b",
    "crc32c": "e3069283",
}
ALL = {algorithm: Digest(algorithm, bytes.fromhex(text)) for algorithm, text in CHECK.items()}


def b64(algorithm: str) -> str:
    """The check value as header fields write it."""
    return base64.b64encode(ALL[algorithm].value).decode()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_hasher_gives_the_known_value(algorithm: str) -> None:
    """Every algorithm, fed bytes, a bytearray and a slice of a memoryview, gives its published check value."""
    hasher = new_hasher(algorithm)
    hasher.update(b"123")
    hasher.update(bytearray(b"45"))
    hasher.update(memoryview(b"xx6789xx")[2:6])
    assert Digest(algorithm, hasher.digest()) == ALL[algorithm]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(data=st.binary(max_size=64), cut=st.integers(0, 64))
def test_chunks_do_not_matter(algorithm: str, data: bytes, cut: int) -> None:
    """However the body is cut, also looked at halfway, its digest is the same and well formed."""
    whole, parts = new_hasher(algorithm), new_hasher(algorithm)
    whole.update(data)
    parts.update(data[:cut])
    parts.digest()
    parts.update(data[cut:])
    assert whole.digest() == parts.digest()
    assert len(whole.digest()) == ALGORITHMS[algorithm]


def test_an_unknown_hasher_is_refused() -> None:
    """The message lists what is known."""
    with pytest.raises(InvalidRequest, match="unknown digest 'sha3'; known are sha512, sha256, blake3"):
        new_hasher("sha3")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_digest_reads_what_it_writes(algorithm: str) -> None:
    """Written and bare, in either letter case, with blanks around."""
    digest = ALL[algorithm]
    assert str(digest) == f"{algorithm}:{CHECK[algorithm]}"
    assert Digest.parse(str(digest)) == digest
    assert Digest.parse(f" {str(digest).upper()}\n") == digest
    assert Digest.parse(CHECK[algorithm], algorithm=algorithm) == digest
    assert Digest.parse(str(digest), algorithm=algorithm) == digest


def test_decorated_names_are_known() -> None:
    """SHA-256 and sha2-256 are sha256."""
    for name in ("SHA-256", "sha2-256", "Sha256"):
        assert Digest.parse(f"{name}:{CHECK['sha256']}") == ALL["sha256"]
        assert Digest.parse(CHECK["sha256"], algorithm=name) == ALL["sha256"]


@pytest.mark.parametrize(
    ("text", "algorithm", "says"),
    [
        ("sha3:00", "", "unknown digest 'sha3'; known are sha512, sha256, blake3, sha1, md5, crc32c"),
        ("00", "whirlpool", "unknown digest 'whirlpool'"),
        ("a:b:00", "", "unknown digest 'a:b'"),
        ("\x1b[31m:00", "", r"unknown digest '\\x1b[31m'"),
        ("x" * 1000 + ":00", "", "unknown digest '" + "x" * 40 + "'"),
        (CHECK["sha256"], "", "say which digest it is, as in sha256:HEX"),
        (":" + CHECK["sha256"], "", "say which digest it is"),
        ("", "", "say which digest it is"),
        ("sha256:", "", "a sha256 digest has 64 hex digits, this one has 0"),
        ("sha256:abcd", "", "a sha256 digest has 64 hex digits, this one has 4"),
        (CHECK["sha1"], "sha256", "a sha256 digest has 64 hex digits, this one has 40"),
        ("sha256:" + "g" * 64, "", "not hexadecimal"),
        ("sha256:" + "ab " * 21 + "a", "", "not hexadecimal"),
        ("sha256:../../" + "a" * 58, "", "not hexadecimal"),
        ("sha256:" + "\uff11" * 64, "", "not hexadecimal"),
        ("md5:" + CHECK["md5"], "sha256", "a sha256 digest was expected, this one says 'md5'"),
    ],
)
def test_a_bad_digest_is_refused_with_its_fault(text: str, algorithm: str, says: str) -> None:
    """Unknown, contradicting, too short, not hex: the message says which and what was expected."""
    with pytest.raises(InvalidRequest) as caught:
        Digest.parse(text, algorithm=algorithm)
    assert says in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("algorithm", "value"), [("sha256", b"short"), ("sha256", b""), ("md4", bytes(16)), ("", b"")]
)
def test_no_malformed_digest_exists(algorithm: str, value: bytes) -> None:
    """Not even when built by hand."""
    with pytest.raises(InvalidRequest):
        Digest(algorithm, value)


@given(st.text(), st.sampled_from(["", "sha256:", "md5:"]), st.sampled_from(["", "sha256", "crc32c"]))
def test_reading_a_digest_is_total(text: str, start: str, algorithm: str) -> None:
    """Any text is refused with InvalidRequest or is a digest fit for a path."""
    try:
        digest = Digest.parse(start + text, algorithm=algorithm)
    except InvalidRequest:
        return
    assert re.fullmatch("[a-z0-9]+:[0-9a-f]+", str(digest))


def test_the_strongest_comes_first() -> None:
    """In the order of ALGORITHMS; of two of a kind the first, of none None."""
    assert strongest([]) is None
    assert strongest(reversed(ALL.values())) == ALL["sha512"]
    assert strongest([ALL["crc32c"], ALL["md5"]]) == ALL["md5"]
    assert strongest([ALL["sha1"], ALL["sha256"], Digest("sha256", bytes(32))]) == ALL["sha256"]


SHA512, SHA256, SHA1, MD5, CRC = (ALL[name] for name in ("sha512", "sha256", "sha1", "md5", "crc32c"))
HF = ("X-Linked-Etag", f'"{CHECK["sha256"]}"')


@pytest.mark.parametrize(
    ("pairs", "status", "expected"),
    [
        # RFC 9530
        ([("Repr-Digest", f"sha-256=:{b64('sha256')}:")], 200, (SHA256,)),
        ([("Repr-Digest", f"sha-256=:{b64('sha256')}:")], 206, (SHA256,)),
        ([("Repr-Digest", f"sha-256=:{b64('sha256')}:")], 302, ()),
        ([("Repr-Digest", f"sha-256=:{b64('sha256')}:")], 416, ()),
        (
            [("repr-digest", f"md5=:{b64('md5')}:,sha-512=:{b64('sha512')}:;x=1 , sha=:{b64('sha1')}:")],
            200,
            (SHA512, SHA1, MD5),
        ),
        (
            [("Repr-Digest", f"sha-256=:{b64('sha256')}:"), ("Repr-Digest", f"md5=:{b64('md5')}:")],
            200,
            (SHA256, MD5),
        ),
        ([("Repr-Digest", f"sha-256=:{b64('md5')}:, sha-256=:{b64('sha256')}:")], 200, (SHA256,)),
        ([("Repr-Digest", f"new=:{b64('md5')}:, sha-256=:{b64('sha256')}:")], 200, (SHA256,)),
        ([("Repr-Digest", f"sha-256=:{b64('md5')}:")], 200, ()),
        ([("Repr-Digest", "sha-256=:a:")], 200, ()),
        ([("Repr-Digest", f"sha-256={b64('sha256')}")], 200, ()),
        ([("Repr-Digest", f"sha-256=:{b64('sha256')}:, x y")], 200, ()),
        ([("Repr-Digest", "")], 200, ()),
        ([("Content-Digest", f"sha-256=:{b64('sha256')}:")], 200, ()),
        # RFC 3230
        ([("Digest", f"SHA-256={b64('sha256')},md5={b64('md5')}")], 200, (SHA256, MD5)),
        ([("Digest", f"SHA={b64('sha1')}, UNIXsum=30637")], 200, (SHA1,)),
        ([("Digest", f"SHA-256={b64('sha256')}")], 206, ()),
        ([("Digest", "sha-256=é, md5, =, sha=====")], 200, ()),
        # Google Cloud Storage
        ([("x-goog-hash", f"crc32c={b64('crc32c')},md5={b64('md5')}")], 200, (MD5, CRC)),
        ([("x-goog-hash", f"crc32c={b64('crc32c')}"), ("x-goog-hash", f"md5={b64('md5')}")], 206, (MD5, CRC)),
        ([("x-goog-hash", "crc32c=AAAA=")], 200, ()),
        ([("x-goog-hash", f"md5={b64('md5')}"), ("x-goog-stored-content-encoding", "identity")], 200, (MD5,)),
        ([("x-goog-hash", f"md5={b64('md5')}"), ("x-goog-stored-content-encoding", "gzip")], 200, ()),
        # Amazon S3
        ([("x-amz-checksum-sha256", b64("sha256")), ("x-amz-checksum-type", "FULL_OBJECT")], 200, (SHA256,)),
        ([("x-amz-checksum-crc32c", b64("crc32c"))], 200, (CRC,)),
        ([("x-amz-checksum-sha1", b64("sha1")), ("x-amz-checksum-type", "COMPOSITE")], 200, ()),
        ([("x-amz-checksum-sha256", b64("sha256") + "-3")], 200, ()),
        ([("x-amz-checksum-sha256", b64("sha256"))], 206, ()),
        ([("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")], 200, ()),
        # Hugging Face
        ([HF], 200, (SHA256,)),
        ([HF], 302, (SHA256,)),
        ([HF], 404, ()),
        ([("X-Linked-Etag", CHECK["sha256"].upper())], 307, (SHA256,)),
        ([("X-Linked-Etag", f'"{CHECK["sha1"]}"')], 302, ()),
        ([("X-Linked-Etag", f'W/"{CHECK["sha256"]}"')], 302, ()),
        ([("ETag", f'"{CHECK["sha256"]}"')], 200, ()),
        # several
        (
            [HF, ("Repr-Digest", f"sha-256=:{b64('sha256')}:"), ("x-goog-hash", f"md5={b64('md5')}")],
            200,
            (SHA256, MD5),
        ),
        (
            [("Digest", f"sha-256={base64.b64encode(bytes(32)).decode()}"), HF],
            200,
            (Digest("sha256", bytes(32)), SHA256),
        ),
        ([], 200, ()),
    ],
)
def test_a_reply_names_its_digests(
    pairs: list[tuple[str, str]], status: int, expected: tuple[Digest, ...]
) -> None:
    """Each kind of field, where it speaks of the whole body; what is malformed counts for nothing."""
    assert digests_from_headers(Headers(pairs), status=status) == expected


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    "repr-digest",
                    "digest",
                    "x-goog-hash",
                    "x-amz-checksum-sha256",
                    "x-amz-checksum-md5",
                    "x-linked-etag",
                ]
            ),
            st.one_of(st.text(), st.text("shamd5-26=:,;+/A \"'", max_size=30)),
        ),
        max_size=4,
    ),
    st.sampled_from([200, 206, 302]),
)
def test_no_reply_makes_it_fail(pairs: list[tuple[str, str]], status: int) -> None:
    """Any fields give well-formed digests or none."""
    for digest in digests_from_headers(Headers(pairs), status=status):
        assert Digest.parse(str(digest)) == digest


HEX = CHECK["sha256"]
OTHER = "0" * 64


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEX, True),
        (f"{HEX}\n", True),
        (f"\ufeff{HEX.upper()}\r\n", True),
        (f"{HEX}  m.bin\n", True),
        (f"{HEX} *m.bin\n", True),
        (f"{HEX} m.bin", True),
        (f"{HEX}\tm.bin", True),
        (f"{HEX}  ./m.bin", True),
        (f"{HEX}  -\n", True),
        (f"SHA256 (m.bin) = {HEX}", True),
        (f"SHA256(m.bin)= {HEX}", True),
        (f"SHA2-256(./m.bin)= {HEX}", True),
        (f"# sums\n\n{OTHER}  other.bin\n{HEX}  m.bin\n", True),
        (f"MD5 (m.bin) = {'0' * 32}\nSHA256 (m.bin) = {HEX}", True),
        (f"{'0' * 32}  m.bin\n{HEX}  m.bin", True),
        (f"{HEX}  m.bin\n{OTHER}  m.bin", True),
        (f"{HEX}  M.BIN", False),
        (f"{HEX}  dir/m.bin", False),
        (f"{HEX}  m.bin.old", False),
        (f"{HEX}\n{OTHER}\n", False),
        (f"{HEX}  -\n{OTHER}  x\n", False),
        (f"SHA512 (m.bin) = {HEX}", False),
        (f"{HEX[:-1]}  m.bin", False),
        (HEX[:-1], False),
        (f"{HEX}{HEX}", False),
        ("not hex  m.bin", False),
        ("<html>404</html>", False),
        ("m.bin", False),
        ("", False),
    ],
)
def test_a_sidecar_gives_the_digest_of_a_file(text: str, *, found: bool) -> None:
    """GNU, BSD and OpenSSL lines and bare hex; the name must be the very same."""
    assert digest_from_sums(text, "m.bin", "sha256") == (ALL["sha256"] if found else None)


def test_a_sidecar_of_an_unknown_digest_gives_none() -> None:
    """What cannot be computed is not promised."""
    assert digest_from_sums(HEX, "m.bin", "sha3") is None
    assert digest_from_sums(CHECK["md5"], "m.bin", "md5") == ALL["md5"]


@given(st.text(), st.text())
def test_any_sidecar_is_read(text: str, filename: str) -> None:
    """A sidecar never raises, and a line written for a name is found under it."""
    digest_from_sums(text, filename, "sha256")
    name = re.sub(r"\s", "", filename) or "x"
    assert digest_from_sums(f"{OTHER}  a b\n{HEX}  x{name}\n", f"x{name}", "sha256") == ALL["sha256"]


@pytest.mark.parametrize(
    ("filename", "prefix"),
    [
        ("resnet18-f37072fd.pth", "f37072fd"),
        ("955717e8-8726e21a.th", "8726e21a"),
        ("model-deadbeefdeadbeef.pt", "deadbeefdeadbeef"),
        ("model-deadbeef.pth.tar", "deadbeef"),
        (f"model-{HEX}.pt", HEX),
        (f"model-{HEX}0.pt", None),
        ("model-deadbee.pt", None),
        ("model-DEADBEEF.pt", None),
        ("model_deadbeef.pt", None),
        ("model-20240131.pt", None),
        ("model-202401310.pt", "202401310"),
        ("bundle-deadbeef.js", None),
        ("model-deadbeef.pt.html", None),
        ("model.pt", None),
        ("", None),
    ],
)
def test_a_checkpoint_name_carries_a_prefix(filename: str, prefix: str | None) -> None:
    """torch.hub's suffix, and neither a date nor a web bundle's hash."""
    assert digest_prefix_from_name(filename) == prefix


def test_a_prefix_is_of_the_sha256() -> None:
    """Other digests and other digits do not match."""
    assert matches_prefix(ALL["sha256"], HEX[:8])
    assert matches_prefix(ALL["sha256"], HEX)
    assert not matches_prefix(ALL["sha256"], "deadbeef")
    assert not matches_prefix(ALL["blake3"], CHECK["blake3"][:8])


def test_check_values_are_the_published_ones() -> None:
    """The table above is right for what hashlib computes by itself."""
    for algorithm in ("sha512", "sha256"):
        assert hashlib.new(algorithm, b"123456789").hexdigest() == CHECK[algorithm]
