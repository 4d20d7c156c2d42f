"""Those who sign JWTs, honest ones and others."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.test/"
AUDIENCE = "tidemill-test"


@cache
def private_key(algorithm: str, name: str) -> Any:
    """Return a key, for each name another one, and always the same."""
    del name
    if algorithm == "RS256":
        return rsa.generate_private_key(65_537, 2_048)
    return (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm == "ES256"
        else ed25519.Ed25519PrivateKey.generate()
    )


@dataclass(frozen=True)
class Signer:
    """Has one private key. `kid`: how the key set calls it."""

    algorithm: str = "ES256"
    kid: str = "k1"

    @property
    def key(self) -> Any:
        return private_key(self.algorithm, self.kid)

    @property
    def public_pem(self) -> bytes:
        return bytes(self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))

    def described(self, **more: Any) -> dict[str, Any]:
        """Return the public key as a key set has it."""
        kinds: dict[str, Any] = {"RS256": RSAAlgorithm, "ES256": ECAlgorithm, "EdDSA": OKPAlgorithm}
        return {**kinds[self.algorithm].to_jwk(self.key.public_key(), as_dict=True), "kid": self.kid, **more}

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """Return a JWT; a header of None is left out."""
        return jwt.encode(dict(claims), self.key, self.algorithm, headers={"kid": self.kid, **header})


def key_set(*signers: Signer) -> bytes:
    return json.dumps({"keys": [signer.described() for signer in signers]}).encode()


def claims(now: datetime, subject: str = "billing", *, life_s: float = 600.0, **more: Any) -> dict[str, Any]:
    """Return what a valid JWT says; a claim that is given as None is left out."""
    at = int(now.timestamp())
    every = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": at, "exp": at + life_s, **more}
    return {name: value for name, value in every.items() if value is not None}


def forged(header: Mapping[str, Any], said: Mapping[str, Any], secret: bytes | None = None) -> str:
    """Return a JWT made by hand, which no library would make: signed with HMAC, or not at all."""
    body = f"{_part(header)}.{_part(said)}"
    signature = b"" if secret is None else hmac.digest(secret, body.encode(), sha256)
    return f"{body}.{_text(signature)}"


def _part(value: Mapping[str, Any]) -> str:
    return _text(json.dumps(value).encode())


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
