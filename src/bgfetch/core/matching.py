"""Which stored request answers a query: the rules of Cache, used for caches and for the records of a registration.

Rule kept here: the *stored* request decides about method and `Vary`; the query only asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bgfetch.core.model import Headers, ReplyHead, Request

__all__ = ["CachedRequest", "QueryOptions", "early_miss", "match_records", "matches", "may_be_put", "url_key"]

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """`CacheQueryOptions`: what a query does not care about."""

    ignore_search: bool = False
    ignore_method: bool = False
    ignore_vary: bool = False


@dataclass(frozen=True, slots=True)
class CachedRequest:
    """The part of a request that a cache keeps, and that queries are compared with."""

    url: str
    method: str = "GET"
    headers: Headers = field(default_factory=Headers)


def url_key(url: str, *, ignore_search: bool = False) -> str:
    """The URL as queries compare it: two URLs match when their keys are equal.

    The fragment is gone; scheme and host are lower-case, a default port is dropped and an empty path is "/", which is
    what a browser's URL parser has done before Cache sees a URL. Credentials stay: they tell entries apart.

    Args:
        url: Absolute URL.
        ignore_search: Drop the query too. Otherwise "/a?" and "/a" differ.

    Source: Service Workers, "request matches cached item" steps 2-5; URL Standard, "equals" with exclude fragments.
    """
    scheme, _, rest = url.partition("#")[0].partition("://")
    path_and_authority, mark, query = rest.partition("?")
    authority, _, path = path_and_authority.partition("/")
    credentials, at, host = authority.rpartition("@")
    scheme = scheme.lower()
    host = host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, ":")).removesuffix(":")
    search = "" if ignore_search else mark + query
    return f"{scheme}://{credentials}{at}{host}/{path}{search}"


def early_miss(query: Request, options: QueryOptions) -> bool:
    """Whether a query returns nothing whatever is stored, because its own method is not GET.

    Source: Service Workers, Cache `matchAll` step 2.2, `delete` step 2.2, `keys` step 2.2.
    """
    return query.method != "GET" and not options.ignore_method


def matches(
    query: Request, cached: CachedRequest | Request, reply: ReplyHead | None, options: QueryOptions
) -> bool:
    """Whether what is stored answers the query; the query's own method is the business of `early_miss`.

    Args:
        query: What is looked for.
        cached: The request that was stored.
        reply: The head stored with it; None (none yet, or an opaque one) leaves `Vary` out.
        options: What the query does not care about.

    Source: Service Workers, "request matches cached item".
    """
    if cached.method != "GET" and not options.ignore_method:
        return False
    search = options.ignore_search
    if url_key(query.url, ignore_search=search) != url_key(cached.url, ignore_search=search):
        return False
    return reply is None or options.ignore_vary or _varies_alike(query, cached, _vary(reply))


def match_records(
    query: Request | None,
    records: Sequence[tuple[Request, ReplyHead | None]],
    options: QueryOptions,
) -> list[int]:
    """Indexes of the records that answer the query, in the order the requests were given.

    Every one of several equal requests is returned; without a query all records are. A query that is not GET
    returns nothing unless `ignore_method`: our correction, as in Cache (read literally, the specification would
    answer a PUT with the record of a GET).

    Args:
        query: What is looked for, or None for everything.
        records: Request and, once it came, reply head of each record.
        options: What the query does not care about.

    Source: Background Fetch, BackgroundFetchRegistration `matchAll`; all records without a query is what browsers do.
    """
    if query is None:
        return list(range(len(records)))
    if early_miss(query, options):
        return []
    return [at for at, (request, reply) in enumerate(records) if matches(query, request, reply, options)]


def may_be_put(request: CachedRequest | Request, reply: ReplyHead) -> str | None:
    """Why `put()` must raise TypeError for this pair, as a sentence; None when it may be stored.

    Any other status is welcome, 404 and 500 too; `add()` asks for more.

    Source: Service Workers, Cache `put` steps 4-7.
    """
    if not url_key(request.url).startswith(("http://", "https://")):
        return "only http and https URLs can be put into a cache"
    if request.method != "GET":
        return f"only GET requests can be put into a cache, this one is {request.method}"
    if reply.status == 206:
        return "a partial response (206) cannot be put into a cache"
    if "*" in _vary(reply):
        return "a response with 'Vary: *' can never match, so it cannot be put into a cache"
    return None


def _vary(reply: ReplyHead) -> list[str]:
    """The field names a reply depends on; repeated fields and empty members are allowed (RFC 9110 section 5.6.1)."""
    names = (name.strip() for name in reply.headers.get("vary", "").split(","))
    return [name for name in names if name]


def _varies_alike(query: Request, cached: CachedRequest | Request, names: list[str]) -> bool:
    """An absent field equals an absent one, but not an empty one."""
    return all(name != "*" and query.headers.get(name) == cached.headers.get(name) for name in names)
