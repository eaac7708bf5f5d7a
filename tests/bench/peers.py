"""How each tool is asked for a file. Peers get their best settings, and nobody shows progress.

aria2c reserves the file with `falloc` (its default writes it twice on some file systems) and may split down to
1 MiB (its default of 20 MiB would leave it with 3 connections for 64 MiB).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["TOOLS", "Job", "aria2c", "aria2c_list", "bgfetch", "curl", "curl_list", "huggingface_hub", "wget"]

TOOLS = ("curl", "wget", "aria2c", "nginx")
_ARIA2C = ["aria2c", "--no-conf", "--quiet", "--allow-overwrite=true", "--file-allocation=falloc"]


@dataclass(frozen=True, slots=True)
class Job:
    """A program and what it is to bring.

    Args:
        argv: The program and its arguments.
        output: The file or folder that must equal what was asked for; None to look at nothing.
        env: Added to the environment.
    """

    argv: Sequence[str]
    output: Path | None = None
    env: dict[str, str] = field(default_factory=dict)


def bgfetch(place: Path, *words: str, ca: Path, home: Path | None = None) -> Job:
    """The command as its users run it, start of the interpreter included; a fresh home unless one is given."""
    env = {
        "BGFETCH_HOME": str(home or place / "home"),
        "BGFETCH_CA_FILE": str(ca),
        "BGFETCH_IN_PROCESS": "1",
    }
    output = None
    if "-o" in words:
        output = Path(words[words.index("-o") + 1])
    return Job([sys.executable, "-m", "bgfetch", *words], output, env)


def curl(place: Path, url: str, *, ca: Path, then_sha256: bool = False) -> Job:
    """curl, and sha256sum after it when asked for."""
    out = place / "out.bin"
    argv = ["curl", "-q", "-sSf", "--cacert", str(ca), "-o", str(out), url]
    if then_sha256:
        argv = ["sh", "-c", '"$@" && sha256sum "$0"', str(out), *argv]
    return Job(argv, out)


def wget(place: Path, url: str, *, ca: Path) -> Job:
    """GNU wget."""
    out = place / "out.bin"
    return Job(["wget", "-q", "--no-config", f"--ca-certificate={ca}", "-O", str(out), url], out)


def aria2c(place: Path, url: str, *, ca: Path, sha256: str = "") -> Job:
    """aria2c with 16 connections, and its own check of the digest when one is given."""
    out = place / "out.bin"
    check = [f"--checksum=sha-256={sha256}"] if sha256 else []
    split = ["-x16", "-s16", "-k1M", f"--ca-certificate={ca}", *check]
    return Job([*_ARIA2C, *split, "-d", str(place), "-o", out.name, url], out)


def aria2c_list(place: Path, urls: Path, *, ca: Path) -> Job:
    """aria2c with 16 files at a time."""
    out = place / "out"
    return Job([*_ARIA2C, "-j16", f"--ca-certificate={ca}", "-d", str(out), "-i", str(urls)], out)


def curl_list(place: Path, urls: Path, *, ca: Path) -> Job:
    """Many files at a time over HTTP/2 with curl."""
    out = place / "out"
    config = place / "curl.conf"
    names = urls.read_text("ascii").split()
    config.write_text("".join(f'url = "{url}"\nremote-name\n' for url in names), "ascii")
    many = ["-Z", "--parallel-max", "64", "--create-dirs", "--output-dir", str(out)]
    return Job(["curl", "-q", "-sSf", "--cacert", str(ca), *many, "-K", str(config)], out)


def huggingface_hub(place: Path, endpoint: str, *, ca: Path) -> Job:
    """huggingface_hub's hf_hub_download, which looks at the length and computes no digest."""
    env = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(place / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "SSL_CERT_FILE": str(ca),
    }
    script = Path(__file__).with_name("hub_get.py")
    repository = place / "cache" / "models--bench--model"
    output = repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567" / "model.bin"
    return Job([sys.executable, str(script), str(place / "cache")], output, env)
