"""What travels with a request, and what of it is stored."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgfetch.environment import harmless, secrets_of, travelling, without_secrets

CANARY = "s3cr3t-canary"


def test_only_what_counts_travels() -> None:
    """The way, the certificates and the accounts; nothing else of what a shell is full of."""
    environ = {
        "HOME": "/home/x",
        "PATH": "/bin",
        "GITHUB_TOKEN": CANARY,
        "LD_PRELOAD": "evil.so",
        "http_proxy": "http://proxy:3128",
        "NO_PROXY": "localhost",
        "SSL_CERT_FILE": "/ca.pem",
        "NETRC": "/netrc",
        "HF_TOKEN": CANARY,
        "HF_ENDPOINT": "https://mirror",
        "AWS_REGION": "eu",
    }
    assert set(travelling(environ)) == {
        "http_proxy", "NO_PROXY", "SSL_CERT_FILE", "NETRC", "HF_TOKEN", "HF_ENDPOINT", "AWS_REGION",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("HF_TOKEN", CANARY, None),
        ("HUGGING_FACE_HUB_TOKEN", CANARY, None),
        ("HF_OIDC_RESOURCE", "resource", "resource"),
        ("HF_TOKEN_PATH", "/home/x/token", "/home/x/token"),
        ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1", "1"),
        ("HF_ENDPOINT", f"https://user:{CANARY}@mirror/x", "https://mirror/x"),
        ("AWS_ACCESS_KEY_ID", CANARY, None),
        ("AWS_SECRET_ACCESS_KEY", CANARY, None),
        ("AWS_SESSION_TOKEN", CANARY, None),
        ("AWS_SHARED_CREDENTIALS_FILE", "/aws", "/aws"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token", "/token"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/g.json", "/g.json"),
        ("KAGGLE_KEY", CANARY, None),
        ("KAGGLE_USERNAME", "x", "x"),
        ("http_proxy", "http://proxy:3128", "http://proxy:3128"),
        ("https_proxy", f"http://user:{CANARY}@proxy:3128/", "http://proxy:3128/"),
        ("https_proxy", f"user:{CANARY}@proxy:3128", "proxy:3128"),
        ("https_proxy", f"//user:{CANARY}@proxy", "//proxy"),
        ("ALL_PROXY", f"socks5h://user:{CANARY}@{CANARY}@proxy:1080", "socks5h://proxy:1080"),
        ("https_proxy", f"http://{CANARY}@proxy", "http://proxy"),
        ("https_proxy", f"http://user:{CANARY}/{CANARY}@proxy", "http://proxy"),
        ("HF_ENDPOINT", "http://mirror/a@b", "http://mirror/a@b"),
        ("SSL_CERT_FILE", "/path/with@at", "/path/with@at"),
    ],
)
def test_what_is_stored(name: str, value: str, kept: str | None) -> None:
    """No token, no key, no password; of a proxy its address, so that nobody goes around it."""
    stored, secret = without_secrets({name: value}), secrets_of({name: value})
    assert stored.get(name) == kept
    assert CANARY not in repr(stored)
    assert {**stored, **secret} == {name: value}


@given(
    st.text("ab:/@?#", max_size=12),
    st.text("ab", max_size=3),
    st.sampled_from(["", "http://", "socks5://", "//"]),
)
def test_no_password_is_stored(password: str, user: str, scheme: str) -> None:
    """Whatever characters it is made of, allowed there or not."""
    value = f"{scheme}{user}:{password}{CANARY}@proxy:3128"
    assert CANARY not in repr(without_secrets({"https_proxy": value}))
    assert {**without_secrets({"x": value}), **secrets_of({"x": value})} == {"x": value}


def test_harmless_is_what_others_may_inherit() -> None:
    """A daemon, and a handler, get no secret of the shell that happened to start them; what they need stays."""
    secrets = {
        "OPENAI_API_KEY": "sk-1",
        "GITHUB_TOKEN": "x",
        "DB_PASSWORD": "x",
        "https_proxy": "http://me:pass@proxy:1",
        "DATABASE_URL": "postgres://u:p@h/d",
    }
    kept = {
        "PATH": "/bin",
        "SSH_AUTH_SOCK": "/run/agent",
        "XAUTHORITY": "/home/me/.Xauthority",
        "EMAIL": "me@example.org",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/bus",
        "BGFETCH_RETRY_SCALE": "1",
        "HF_TOKEN_PATH": "/home/me/token",
    }
    assert harmless({**secrets, **kept}) == kept
