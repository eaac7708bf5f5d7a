"""What the model server promises to browsers: each row of the table in docs/web-server.md, asked with curl."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest
from starlette.applications import Starlette
from tests.asgi import Answered, curl, serving

from bgfetch.web import Kit, ModelServer

MIB = 1 << 20
BODY = random.Random(1).randbytes(9 * MIB + 5)  # two segments
SHA256 = hashlib.sha256(BODY).hexdigest()
APP = "https://app.example"


def digest(data: bytes) -> str:
    """A Repr-Digest or Content-Digest of these bytes."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models as people have them."""
    root = tmp_path_factory.mktemp("models")
    (root / "m" / "onnx").mkdir(parents=True)
    for name, data in {
        "m/onnx/model.onnx": BODY,
        "m/config.json": b"{}",
        "m/empty.bin": b"",
        "m/run.wasm": b"\0asm",
        "m/ort.mjs": b"export{}",
        "m/page.html": b"<script>alert(1)</script>",
        "m/ü 1.gguf": b"GGUF",
    }.items():
        (root / name).write_bytes(data)
        os.utime(root / name, (1_700_000_000.5, 1_700_000_000.5))
    return root


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[str]:
    """Its URL, with everything hashed, as a part of an application."""
    models = ModelServer(folder, index=None, cors=[APP])
    application = Starlette()
    application.mount("/models", models)
    application.mount("/bgfetch", Kit())
    assert models._hashing.wait(10)
    with serving(application) as url:
        yield f"{url}/models/"
    models.close()


@pytest.fixture(scope="module")
def model(server: str) -> str:
    """The URL of a model of two segments."""
    return f"{server}m/onnx/model.onnx"


def test_whole(model: str) -> None:
    """GET gives the bytes, how many they are, and that parts of them may be asked for."""
    got = curl(model)
    assert (got.code, got.status, got.body) == (0, 200, BODY)
    assert got.headers["content-length"] == str(len(BODY))
    assert got.headers["accept-ranges"] == "bytes"


def test_head_is_the_head_of_get(model: str) -> None:
    """HEAD says all that GET says, the length too, and sends nothing."""
    head, whole = curl(model, "--head"), curl(model)
    assert (head.status, head.body) == (200, b"")
    changing = ("date", "server-timing")
    assert [pair for pair in head.headers.pairs if pair[0] not in changing] == [
        pair for pair in whole.headers.pairs if pair[0] not in changing
    ]


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("100-199", 100, 200),
        ("9437180-", 9437180, len(BODY)),
        ("-7", len(BODY) - 7, len(BODY)),
        ("0-999999999", 0, len(BODY)),
    ],
)
def test_ranges(model: str, asked: str, start: int, stop: int) -> None:
    """A range is answered with 206, which bytes these are, and how many there are in all."""
    got = curl(model, "-H", f"Range: bytes={asked}")
    assert (got.status, got.body) == (206, BODY[start:stop])
    assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(BODY)}"
    assert got.headers["content-length"] == str(stop - start)


def test_no_such_bytes(model: str) -> None:
    """416 says how long the file is, so that a client that has it all knows."""
    got = curl(model, "-H", f"Range: bytes={len(BODY)}-")
    assert got.status == 416
    assert got.headers["content-range"] == f"bytes */{len(BODY)}"
    assert got.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("field", "status"), [('If-Match: "another"', 412), (f"Range: bytes={len(BODY)}-", 416)]
)
def test_what_one_client_cannot_have_is_not_kept_for_others(model: str, field: str, status: int) -> None:
    """The bytes of a version never change, but a refusal is of one request: caches may not keep it under the URL."""
    got = curl(f"{model}?sha256={SHA256}", "-H", field)
    assert (got.status, got.headers["cache-control"]) == (status, "no-store")


def test_a_query_that_is_none_of_ours(model: str) -> None:
    """What would be read in part only is refused: a version that is named behind it is not passed over."""
    for query in (f"sha256={SHA256}&more={'x' * 5000}", "&".join(f"{n}={n}" for n in range(40))):
        assert curl(f"{model}?{query}").status == 414


def test_a_manifest_has_no_date(server: str) -> None:
    """A file that goes makes it another one and no younger: If-Modified-Since says nothing about it."""
    got = curl(f"{server}m/manifest.json", "-H", "If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT")
    assert got.status == 200


def test_many_ranges_are_answered_whole(model: str) -> None:
    """A list of ranges is deliberately not understood: 200 with everything, and no multipart."""
    got = curl(model, "-H", "Range: bytes=0-0,2-2")
    assert (got.status, len(got.body)) == (200, len(BODY))


def test_never_encoded(model: str) -> None:
    """Whatever a client accepts, the bytes are the file's, and nobody on the way may change them."""
    got = curl(model, "-H", "Accept-Encoding: gzip, br, zstd")
    assert "content-encoding" not in got.headers
    assert got.headers["content-length"] == str(len(BODY))
    assert "no-transform" in got.headers["cache-control"]


def test_etag_is_the_digest(model: str) -> None:
    """The tag is strong, and the same on every replica: what the bytes hash to."""
    assert curl(model).headers["etag"] == f'"{SHA256}"'


def test_if_range(model: str) -> None:
    """A part is given only to who has the rest of this version."""
    same = curl(model, "-H", "Range: bytes=5-9", "-H", f'If-Range: "{SHA256}"')
    other = curl(model, "-H", "Range: bytes=5-9", "-H", 'If-Range: "another"')
    assert (same.status, same.body) == (206, BODY[5:10])
    assert (other.status, other.body) == (200, BODY)


def test_if_range_with_a_date(model: str) -> None:
    """The exact Last-Modified will do, too."""
    date = curl(model, "--head").headers["last-modified"]
    assert date == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert curl(model, "-H", "Range: bytes=5-9", "-H", f"If-Range: {date}").status == 206


def test_if_none_match_and_if_match(model: str) -> None:
    """304 without a body to who has it, with all that keeps it fresh; 412 to who wants another version."""
    got = curl(model, "-H", f'If-None-Match: "{SHA256}"')
    assert (got.status, got.body) == (304, b"")
    for field in ("etag", "cache-control", "last-modified"):
        assert field in got.headers
    assert curl(model, "-H", 'If-Match: "another"').status == 412
    assert curl(model, "-H", "If-Unmodified-Since: Mon, 13 Nov 2023 22:13:20 GMT").status == 412


def test_digests_of_whole_and_part(model: str) -> None:
    """Repr-Digest is of the file, on every answer with bytes and on HEAD; Content-Digest of exactly one segment."""
    segment = 8 * MIB
    for arguments in ((), ("--head",), ("-H", "Range: bytes=1-2")):
        assert curl(model, *arguments).headers["repr-digest"] == digest(BODY)
    first = curl(model, "-H", f"Range: bytes=0-{segment - 1}")
    assert first.headers["content-digest"] == digest(BODY[:segment])
    last = curl(model, "-H", f"Range: bytes={segment}-")
    assert last.headers["content-digest"] == digest(BODY[segment:])
    assert "content-digest" not in curl(model, "-H", "Range: bytes=0-5").headers


def test_versioned_urls_are_for_ever(model: str) -> None:
    """A URL with the digest in it is cached for ever; one without is asked about each time; another version is a 404."""
    now, named = curl(model, "--head"), curl(f"{model}?sha256={SHA256}", "--head")
    assert now.headers["cache-control"] == "no-cache, no-transform"
    assert named.headers["cache-control"] == "public, max-age=31536000, immutable, no-transform"
    for other in ("0" * 64, "xyz", ""):
        got = curl(f"{model}?sha256={other}")
        assert got.status == 404
        assert got.headers["cache-control"] == "no-store"
        assert b"version" in got.body


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("onnx/model.onnx", "application/octet-stream"),
        ("run.wasm", "application/wasm"),
        ("ort.mjs", "text/javascript"),
        ("config.json", "application/json"),
        ("page.html", "application/octet-stream"),
    ],
)
def test_types_are_not_guessed(server: str, name: str, kind: str) -> None:
    """What runtimes load by type has it, all else is bytes: a page in a model's folder is never shown as the site's."""
    got = curl(f"{server}m/{name}")
    assert got.headers["content-type"] == kind
    assert got.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "m/nothing",
        "",
        "m",
        "m/",
        "m/onnx",
        "m/onnx/",
        "m/nothing?manifest",
        "m/onnx/model.onnx/",
        "n/manifest.json",
    ],
)
def test_404_is_text(server: str, path: str) -> None:
    """What is not there is a 404 in words, never a page that could be taken for a model; folders are not listed."""
    got = curl(f"{server}{path}")
    assert got.status == 404
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert b"<" not in got.body


ATTACKS = [
    "..", "../secret", "..%2fsecret", "%2e%2e/secret", "%2e%2e%2fsecret", "%252e%252e%252fsecret", "m/../../secret", "m/..;/secret",
    "/etc/passwd", "//etc/passwd", "%2fetc%2fpasswd", "m%5c..%5c..%5csecret", "m\\..\\secret", "m/config.json%00", "%00", "m/%0d%0aX:%20y",
    "C:/secret", "m/config.json::$DATA", "m/CON", "m/config.json.", "m/config.json%20", "m/./config.json", "m//config.json",
    ".hidden", "m/.hidden", "out", "pipe", "%ff%fe", "%c0%ae%c0%ae/secret", "m/" + "a" * 5000, "m/config.json/../config.json",
]  # fmt: skip


@pytest.mark.parametrize("path", ATTACKS, ids=range(len(ATTACKS)))
@pytest.mark.parametrize("query", ["", "?manifest", f"?sha256={'0' * 64}"])
def test_no_name_leads_out(folder: Path, server: str, path: str, query: str) -> None:
    """Over HTTP, the path sent as it stands: nothing outside of the folder, no dotfile, no pipe, no other spelling of a name."""
    (folder.parent / "secret").write_bytes(b"secret")
    for hidden in (folder / ".hidden", folder / "m" / ".hidden"):
        hidden.write_bytes(b"secret")
    if not (folder / "out").is_symlink():
        (folder / "out").symlink_to(folder.parent / "secret")
        os.mkfifo(folder / "pipe")
    got = curl(f"{server}{path}{query}")
    assert got.status in (400, 404), path
    assert b"secret" not in got.body


def test_cors(model: str) -> None:
    """The page that was named may read it, and every field it needs; no other may; caches keep the two apart."""
    ours = curl(model, "--head", "-H", f"Origin: {APP}").headers
    assert ours["access-control-allow-origin"] == APP
    exposed = ours["access-control-expose-headers"]
    for field in (
        "Accept-Ranges", "Content-Range", "ETag", "Content-Length", "Repr-Digest", "Content-Digest", "Retry-After", "Link",
    ):  # fmt: skip
        assert field in exposed
    assert ours["timing-allow-origin"] == APP
    other = curl(model, "--head", "-H", "Origin: https://evil.example").headers
    assert "access-control-allow-origin" not in other
    assert ours["vary"] == other["vary"] == curl(model, "--head").headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "arguments",
    [("-H", f'If-None-Match: "{SHA256}"'), ("-H", "Range: bytes=99999999-"), ("-H", 'If-Match: "x"')],
)
def test_cors_is_on_every_status(model: str, arguments: tuple[str, str]) -> None:
    """Script can read 304, 416 and 412 as well."""
    got = curl(model, "-H", f"Origin: {APP}", *arguments)
    assert got.status in (304, 412, 416)
    assert got.headers["access-control-allow-origin"] == APP


def test_preflight(model: str) -> None:
    """If-Range needs a preflight, which says yes for two hours."""
    got = curl(
        model, "-X", "OPTIONS", "-H", f"Origin: {APP}", "-H", "Access-Control-Request-Method: GET", "-H",
        "Access-Control-Request-Headers: if-range,range",
    )  # fmt: skip
    assert (got.status, got.body) == (204, b"")
    assert got.headers["access-control-allow-origin"] == APP
    assert got.headers["access-control-allow-methods"] == "GET, HEAD"
    for field in ("Range", "If-Range", "If-Match", "Authorization"):
        assert field in got.headers["access-control-allow-headers"]
    assert got.headers["access-control-max-age"] == "7200"


def test_isolation_and_metrics(model: str) -> None:
    """An isolated page of another origin may use it where CORS lets it; how long the look took is told."""
    got = curl(model, "--head")
    assert got.headers["cross-origin-resource-policy"] == "cross-origin"
    assert got.headers["server-timing"].startswith("open;dur=")


@pytest.mark.parametrize("cors", ["*", ()])
def test_cors_for_all_and_for_none(folder: Path, cors: str | tuple[()]) -> None:
    """All need no Vary; without any origin nothing is said to other sites at all."""
    models = ModelServer(folder, index=None, cors=cors)
    with serving(models) as url:
        got = curl(f"{url}/m/config.json", "--head", "-H", f"Origin: {APP}").headers
    models.close()
    assert got.get("access-control-allow-origin") == ("*" if cors else None)
    assert got["cross-origin-resource-policy"] == ("cross-origin" if cors else "same-origin")
    assert "vary" not in got


def test_link_to_the_manifest(model: str) -> None:
    """Who has only a file's URL finds its digests."""
    link = curl(model, "--head").headers["link"]
    assert link == '<model.onnx?manifest>; rel="describedby"; type="application/json"'
    (file,) = json.loads(curl(urljoin(model, "model.onnx?manifest")).body)["files"]
    assert (file["path"], file["sha256"]) == ("model.onnx", SHA256)
    assert curl(urljoin(model, file["url"])).body == BODY


def test_manifest_of_a_folder(server: str) -> None:
    """Everything below it, sorted, with sizes, types and digests that are right, and URLs that work."""
    url = f"{server}m/manifest.json"
    got = curl(url)
    assert (got.status, got.headers["cache-control"]) == (200, "no-cache, no-transform")
    assert got.headers["content-type"] == "application/json"
    manifest = json.loads(got.body)
    assert manifest["bgfetch"] == 1
    files = manifest["files"]
    assert [file["path"] for file in files] == sorted(
        ["config.json", "empty.bin", "onnx/model.onnx", "ort.mjs", "page.html", "run.wasm", "ü 1.gguf"]
    )
    for file in files:
        body = curl(urljoin(url, file["url"]), "--fail").body
        size = file["segment_size"]
        assert (file["size"], file["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())
        assert file["segments"] == [
            hashlib.sha256(body[at : at + size]).hexdigest() for at in range(0, len(body), size)
        ]
    assert curl(url, "-H", f"If-None-Match: {got.headers['etag']}").status == 304


def test_only_reading(model: str) -> None:
    """Other methods are refused with those that are not."""
    for method in ("POST", "PUT", "DELETE"):
        got = curl(model, "-X", method)
        assert (got.status, got.headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_kit(server: str) -> None:
    """The kit's files come as scripts that a worker may be made of, and are asked about each time."""
    kit = server.replace("/models/", "/bgfetch/")
    names = [path.name for path in (Path(__file__).parents[2] / "src/bgfetch/web/kit").glob("*.js")]
    for name in names:
        got = curl(f"{kit}{name}")
        assert got.headers["content-type"] == "text/javascript; charset=utf-8"
        assert got.headers["cache-control"] == "no-cache"
        assert got.headers["service-worker-allowed"] == "/"
        assert got.headers["x-content-type-options"] == "nosniff"
        isolated = "require-corp" if name == "engine.js" else None  # else an isolated page could not start it
        assert got.headers.get("cross-origin-embedder-policy") == isolated
        assert curl(f"{kit}{name}", "-H", f"If-None-Match: {got.headers['etag']}").status == 304
    for name in ("", "nothing.js", "../assets.py", "kit.js/", "..%2fassets.py"):
        assert_text_404(curl(f"{kit}{name}"))


def assert_text_404(got: Answered) -> None:
    """Nothing is there, in words."""
    assert got.status == 404
    assert got.headers["content-type"].startswith("text/plain")
