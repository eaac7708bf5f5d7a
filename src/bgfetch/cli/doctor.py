"""`bgfetch doctor`: what this machine, this network and this home are like, and what is wrong with them."""

from __future__ import annotations

import os
import platform
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bgfetch.cli import options
from bgfetch.cli.exits import Exit
from bgfetch.cli.output import columns, give_json
from bgfetch.config import Settings, load
from bgfetch.core.urls import redacted
from bgfetch.errors import BgfetchError
from bgfetch.terminal.words import bytes_in_words
from bgfetch.version import __version__

if TYPE_CHECKING:
    from bgfetch.wiring import Wiring

__all__ = ["doctor"]

_LITTLE = 1 << 30  # bytes; less free than a small model needs is worth a word
_BUILT = 1_750_000_000.0  # mid 2025: no clock that is right says less
_PROXIES = ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")
_TRUST = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR")


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look came to.

    Args:
        check: What was looked at.
        verdict: "ok", "warning" (works, but look at it) or "wrong".
        detail: What was found, and what to do.
    """

    check: str
    verdict: str
    detail: str


@click.command()
@click.option(
    "--repair", is_flag=True, help="Make a damaged database good again from the files; a copy stays."
)
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, *, repair: bool, as_json: bool) -> int:
    """Check this machine, its network settings and this home. Exit 10 if something is wrong."""
    settings = load({"home": ctx.find_root().params.get("home")})
    findings = [finding for look in _looks(settings, repair=repair) for finding in look()]
    if as_json:
        for finding in findings:
            give_json(asdict(finding))
    else:
        click.echo(columns((), [(it.verdict, it.check, it.detail) for it in findings]))
    return Exit.SOME_FAILED if any(it.verdict == "wrong" for it in findings) else Exit.DONE


def _looks(settings: Settings, *, repair: bool) -> list[Callable[[], Iterator[Finding]]]:
    home = settings.home
    return [
        _versions,
        lambda: _home(home),
        lambda: _room(home),
        lambda: _database(settings, repair=repair),
        lambda: _clock(home),
        _proxies,
        lambda: _certificates(settings),
    ]


def _versions() -> Iterator[Finding]:
    import pycurl

    yield Finding("bgfetch", "ok", f"{__version__}, Python {platform.python_version()} on {sys.platform}")
    yield Finding("libcurl", "ok", str(pycurl.version))


def _home(home: Path) -> Iterator[Finding]:
    if not home.exists():
        yield Finding("home", "ok", f"{home} does not exist yet; the first download makes it")
        return
    if not home.is_dir():
        yield Finding("home", "wrong", f"{home} is not a directory: remove it, or set BGFETCH_HOME")
        return
    probe = home / f".{os.urandom(8).hex()}"
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        yield Finding("home", "wrong", f"{home} cannot be written to: {error.strerror}")
        return
    mode = home.stat().st_mode & 0o777
    if os.name == "posix" and mode & 0o022:
        yield Finding("home", "wrong", f"{home} has mode {mode:o}: others may change it; chmod 700 it")
    else:
        yield Finding("home", "ok", str(home))


def _room(home: Path) -> Iterator[Finding]:
    import shutil

    place = next(each for each in (home, *home.parents) if each.exists())
    free = shutil.disk_usage(place).free
    verdict = "ok" if free >= _LITTLE else "warning"
    yield Finding("disk", verdict, f"{bytes_in_words(free)} free where {place} is")


def _database(settings: Settings, *, repair: bool) -> Iterator[Finding]:
    from bgfetch.database import Damaged
    from bgfetch.wiring import Wiring

    path = settings.home / "state" / "bgfetch.sqlite3"
    if not path.exists():
        yield Finding("database", "ok", "there is none yet")
        return
    aside = sorted(each.name for each in path.parent.glob("*.damaged-*[0-9]"))
    if aside:
        yield Finding("database", "warning", f"a damaged one was set aside earlier: {', '.join(aside)}")
    wiring = Wiring(settings)
    try:
        yield _mended(wiring, path) if repair else _checked(wiring, path)
    except Damaged as error:
        yield _damaged(str(error))
    except BgfetchError as error:
        yield Finding("database", "wrong", str(error))
    finally:
        wiring.close()


def _damaged(what: str) -> Finding:
    return Finding(
        "database",
        "wrong",
        f"{what}; `bgfetch doctor --repair` keeps it aside and makes what is damaged again from the files",
    )


def _checked(wiring: Wiring, path: Path) -> Finding:
    wiring.database.check()
    rows = len(wiring.registrations.unreadable()) + len(wiring.entries.unreadable())
    return _damaged(f"{path} has {rows} damaged rows") if rows else _sound(path)


def _mended(wiring: Wiring, path: Path) -> Finding:
    words = wiring.mend()
    return Finding("database", "warning", words) if words else _sound(path)


def _sound(path: Path) -> Finding:
    return Finding("database", "ok", f"{path} is sound")


def _clock(home: Path) -> Iterator[Finding]:
    now = time.time()
    newest = max((path.stat().st_mtime for path in (home, home / "state") if path.exists()), default=0.0)
    if now < _BUILT:
        yield Finding("clock", "wrong", f"it says {time.ctime(now)}: set it, or no certificate is valid")
    elif newest > now + 60:
        yield Finding("clock", "warning", f"files here are from {time.ctime(newest)}: it was set back")
    else:
        yield Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(now)))


def _proxies() -> Iterator[Finding]:
    used = {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
    if os.environ.get("HTTP_PROXY") and "http_proxy" not in used:
        yield Finding(
            "proxy",
            "warning",
            "HTTP_PROXY is ignored, as in curl: a server's client can set it; write http_proxy",
        )
    for name, value in used.items():
        yield Finding("proxy", "ok", f"{name} = {_without_password(value)}")
    if not used:
        yield Finding("proxy", "ok", "none")


def _without_password(url: str) -> str:
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://***@{after}" if at and "://" in before else redacted(after or url)


def _certificates(settings: Settings) -> Iterator[Finding]:
    named = {name: os.environ[name] for name in _TRUST if os.environ.get(name)}
    if settings.ca_file:
        named = {"ca_file": settings.ca_file, **named}
    if not named:
        import certifi

        named = {"certifi": certifi.where()}
    for name, path in named.items():
        yield _certificate(name, path)


def _certificate(name: str, path: str) -> Finding:
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if Path(path).is_dir():
            context.load_verify_locations(capath=path)
            return Finding("certificates", "ok", f"{name}: the folder {path}")
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        return Finding("certificates", "wrong", f"{name}: {path} cannot be read: {error}")
    return Finding("certificates", "ok", f"{name}: {context.cert_store_stats()['x509_ca']} in {path}")
