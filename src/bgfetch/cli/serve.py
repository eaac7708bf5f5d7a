"""`bgfetch serve`: a folder of models for browsers, with the kit that fetches them."""

from __future__ import annotations

import ipaddress
import threading
from typing import TYPE_CHECKING

import click

from bgfetch.cli import options
from bgfetch.cli.home import opened
from bgfetch.cli.output import give_json, give_line, say
from bgfetch.errors import InvalidRequest

if TYPE_CHECKING:
    from bgfetch.web.connections import Network
    from bgfetch.web.server import ModelServer

__all__ = ["serve"]

_LOOK = 1.0  # s between two words about hashing


def _networks(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> list[Network]:
    """Addresses and networks, several in one value where commas are between them."""
    try:
        return [ipaddress.ip_network(each.strip()) for value in values for each in value.split(",")]
    except ValueError as error:
        raise InvalidRequest(
            f"--trusted-proxy: {error}; give an address such as 127.0.0.1, or a network such as 10.0.0.0/8"
        ) from error


@click.command()
@click.argument("directory", required=False, metavar="[DIR]", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--cache", "cached", is_flag=True, help="Serve what `bgfetch get` has stored instead of a folder."
)
@click.option(
    "--host", default="127.0.0.1", metavar="ADDRESS", show_default=True, help="Address to listen on."
)
@click.option(
    "-p",
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(0, 65535),
    metavar="PORT",
    help="0 = any.",
)
@click.option("--index", is_flag=True, help="Show a page that names every model at /.")
@click.option(
    "--cors",
    multiple=True,
    metavar="ORIGIN",
    help="Pages that may read models, such as https://app.example; * = all.",
)
@click.option(
    "--upstream",
    default="",
    metavar="URL",
    help="Fetch from below this URL what is not here yet, and keep it.",
)
@click.option(
    "--tls-cert",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="Serve over https.",
)
@click.option("--tls-key", metavar="FILE", type=click.Path(exists=True, dir_okay=False), help="Its key.")
@click.option(
    "--trusted-proxy",
    "proxies",
    multiple=True,
    metavar="ADDRESS",
    callback=_networks,
    help="A proxy whose X-Forwarded-For says who asks; a network such as 10.0.0.0/8 is one, too.",
)
@click.option(
    "--per-client",
    default=64,
    show_default=True,
    type=click.IntRange(1),
    metavar="N",
    help="Most downloads of one address at once.",
)
@click.option(
    "--limit-rate",
    default="0",
    metavar="RATE",
    callback=options.bytes_,
    help="Most bytes a second to one address, such as 5M; 0 = no limit.",
)
@options.as_json
def serve(
    *,
    directory: str | None,
    cached: bool,
    host: str,
    port: int,
    index: bool,
    cors: tuple[str, ...],
    upstream: str,
    tls_cert: str | None,
    tls_key: str | None,
    proxies: list[Network],
    per_client: int,
    limit_rate: int,
    as_json: bool,
) -> int:
    """Serve a folder of models to browsers, until Ctrl-C.

    Models are below /models/, with a manifest in each folder, and the kit is below /bgfetch/. Only this machine reaches
    it unless --host says otherwise.
    """
    from bgfetch.web import Limits, ModelServer
    from bgfetch.web.site import Site, is_loopback, listener

    if bool(directory) == cached:
        raise InvalidRequest("say what to serve: a folder, or --cache")
    if bool(tls_cert) != bool(tls_key):
        raise InvalidRequest("https needs both --tls-cert and --tls-key")
    with opened() as wiring:
        settings = wiring.settings
    limits = Limits(per_client=per_client, rate=limit_rate)
    listening = listener(host, port)
    models = (
        ModelServer.of_cache(settings=settings, cors=cors, limits=limits)
        if directory is None
        else ModelServer(directory, cors=cors, limits=limits, upstream=upstream, settings=settings)
    )
    tls = (tls_cert, tls_key) if tls_cert and tls_key else None
    site = Site(models, listening, host=host, index=index, tls=tls, proxies=proxies)
    if tls is None and not is_loopback(host):
        say(
            f"{host} can be reached from other machines, without TLS: everybody on the way can read and change what is sent, and "
            "their browsers run service workers over https or on localhost only; see --tls-cert"
        )

    def started() -> None:
        _tell_url(site.url, as_json=as_json)
        threading.Thread(
            target=_tell_hashing, args=(models,), kwargs={"as_json": as_json}, daemon=True
        ).start()

    site.run(started)
    return 0


def _tell_url(url: str, *, as_json: bool) -> None:
    if as_json:
        give_json({"url": url, "models": f"{url}models/", "kit": f"{url}bgfetch/"})
    else:
        give_line(url)


def _tell_hashing(models: ModelServer, *, as_json: bool) -> None:
    """Say how far hashing is, each second while it goes on, and when all is hashed."""
    said = False
    while not models.wait_hashed(_LOOK):
        progress, said = models.hashing, True
        if as_json:
            give_json({"hashing": {"done": progress.done, "total": progress.total}})
        else:
            say(f"hashing: {progress.done:,} of {progress.total:,} bytes; what is hashed can be verified")
    if as_json:
        give_json({"hashed": True})
    elif said:
        say("all is hashed")
