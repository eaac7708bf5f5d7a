"""Which proxy a URL goes through."""

from __future__ import annotations

import pytest

from bgfetch.transports.proxies import Proxies

PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environment", "url", "proxy"),
    [
        ({}, "http://h/", ""),
        ({"http_proxy": PROXY}, "http://h/", PROXY),
        ({"http_proxy": PROXY}, "https://h/", ""),
        ({"https_proxy": PROXY}, "https://h/", PROXY),
        ({"HTTPS_PROXY": PROXY}, "https://h/", PROXY),
        ({"HTTP_PROXY": PROXY}, "http://h/", ""),  # CVE-2016-5385
        ({"all_proxy": PROXY}, "http://h/", PROXY),
        ({"ALL_PROXY": PROXY}, "https://h/", PROXY),
        ({"all_proxy": "socks5h://s", "https_proxy": PROXY}, "https://h/", PROXY),
        ({"https_proxy": "", "HTTPS_PROXY": PROXY}, "https://h/", PROXY),
        ({"http_proxy": PROXY, "no_proxy": "h"}, "http://h/", ""),
        ({"http_proxy": PROXY, "NO_PROXY": "other, h"}, "http://h/", ""),
    ],
)
def test_from_environment(environment: dict[str, str], url: str, proxy: str) -> None:
    """The variables mean what curl(1) says, capitals of http_proxy excepted there too."""
    assert Proxies.from_environment(environment).choose(url) == proxy


@pytest.mark.parametrize(
    ("entry", "host", "direct"),
    [
        ("*", "anything.example", True),
        ("example.com", "example.com", True),
        ("example.com", "a.example.com", True),
        (".example.com", "a.example.com", True),
        ("example.com", "badexample.com", False),
        ("EXAMPLE.com", "example.COM", True),
        ("example.com:80", "example.com", True),
        ("example.com:81", "example.com", False),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.0/8", "127.9.9.9", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "ten.example", False),
        ("::1", "[::1]", True),
        ("[::1]:80", "[::1]", True),
        ("[::1]:81", "[::1]", False),
        ("fd00::/8", "[fd00::5]", True),
        (".", "example.com", False),
    ],
)
def test_no_proxy(entry: str, host: str, direct: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Domains with what is below them, addresses and networks, each with its port if it has one."""
    assert (Proxies({"http": PROXY}, (entry,)).choose(f"http://{host}/") == "") is direct
