"""Certificates for an afternoon: an authority of one's own, and what it signs, made by `openssl`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

_CONFIGURATION = "[req]\ndistinguished_name = name\n[name]\n"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path

    def both(self) -> str:
        """Return the text of a file that holds both, which is what Kafka wants."""
        return self.key.read_text() + self.cert.read_text()


@dataclass(frozen=True)
class Authority:
    """Who signs certificates. `cert` is what those who trust it have as their CA file."""

    folder: Path
    name: str

    @property
    def cert(self) -> Path:
        return self.folder / f"{self.name}.pem"

    def sign(self, name: str, *, host: str | None = None) -> Certificate:
        """Return a certificate of the subject `CN=name`; `host`: the only server that it names."""
        made = Certificate(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        hosts = () if host is None else ("-addext", f"subjectAltName=DNS:{host}")
        ours = ("-CA", self.cert, "-CAkey", self.folder / f"{self.name}.key")
        _make(made, name, *ours, "-addext", "authorityKeyIdentifier=keyid", *hosts)
        return made


def new_authority(folder: Path, name: str) -> Authority:
    """Make an authority whose files are in `folder`."""
    made = Authority(folder, name)
    rights = ("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    _make(Certificate(made.cert, folder / f"{name}.key"), name, *rights)
    return made


def _make(made: Certificate, name: str, *options: str | Path) -> None:
    configuration = made.cert.parent / "openssl.cnf"
    configuration.write_text(_CONFIGURATION)  # the machine's own would add extensions of its own
    command = ["openssl", "req", "-x509", *_KEY, "-days", "2", "-subj", f"/CN={name}"]
    files = ("-config", configuration, "-keyout", made.key, "-out", made.cert, *options)
    subprocess.run([*command, *map(str, files)], check=True, capture_output=True)
