"""URLs for drivers that are libpq, which take what is set for TLS from the URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit


def with_tls(
    url: str,
    *,
    sslmode: str | None = None,
    ca_file: Path | None = None,
    cert_file: Path | None = None,
    key_file: Path | None = None,
) -> str:
    """Return the URL with what is given of TLS in it; it may hold a password, so it is for a driver, not for a log."""
    parts = urlsplit(url)
    tls = {"sslmode": sslmode, "sslrootcert": ca_file, "sslcert": cert_file, "sslkey": key_file}
    given = {name: str(value) for name, value in tls.items() if value is not None}
    if sslmode == "verify-full" and ca_file is None:
        # as our other driver does; libpq's own default is a file in the home of whoever runs it
        given["sslrootcert"] = "system"
    return parts._replace(query=urlencode(dict(parse_qsl(parts.query)) | given)).geturl()
