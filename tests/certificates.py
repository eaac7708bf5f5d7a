"""A certificate of the tests' own. Imported as `tests.certificates`: pytest is run as `python -m pytest` from the root."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path
from typing import Any

__all__ = ["certificate", "server_context"]


def server_context(pem: Path) -> ssl.SSLContext:
    """Of a server for "localhost"; its new certificate, which vouches for itself, is written into the file."""
    pem.write_bytes(certificate())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def certificate() -> bytes:
    """A key and a certificate for "localhost" that a day will end, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    builder: Any = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(
        now + dt.timedelta(days=1)
    )
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    signed = builder.sign(key, hashes.SHA256())
    plain = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    return bytes(text + signed.public_bytes(serialization.Encoding.PEM))
