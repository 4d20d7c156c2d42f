"""Why a connection to a broker fails: TLS, login, protocol, and the variable to look at.

The client writes to its log why it could not connect, and raises only that nobody was there. So what each connection
failed of is noted here, for whoever then gets no answer. It is kept for the whole process, which knows one Kafka.
"""

from __future__ import annotations

import ssl
from time import monotonic
from typing import Any, Final

from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

_ANOTHER_HOST: Final = (62, 64)  # OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and .._IP_ADDRESS_MISMATCH
_LOGIN_REFUSED: Final = (AuthenticationFailedError, SaslAuthenticationFailed)
_ENDED: Final = (KafkaConnectionError, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)

_Address = tuple[str, int]
_noted: Final[dict[_Address, tuple[float, str]]] = {}


def note(address: _Address, error: BaseException, **how: Any) -> None:
    """Remember why no connection to `address` was made; `how`: the arguments of the attempt."""
    reason = explain(error, str(how.get("security_protocol")), str(how.get("sasl_mechanism")))
    if reason is None:
        forget(address)
    else:
        _noted[address] = (monotonic(), f"{address[0]}:{address[1]} {reason}")


def forget(address: _Address) -> None:
    """Forget what was noted of `address`: it takes us now, or it is unavailable."""
    _noted.pop(address, None)


def since(began_s: float) -> str | None:
    """Return what was noted last, not before `began_s` (monotonic time); None if nothing was."""
    noted_s, reason = max(_noted.values(), default=(0.0, None))
    return reason if noted_s >= began_s else None


def explain(error: BaseException, protocol: str, mechanism: str) -> str | None:
    """Return what a broker does that we cannot connect to, and what to do; None if it is just away."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    if isinstance(error, ssl.SSLError):
        return (
            f"breaks TLS off ({error}): see TIDEMILL_KAFKA_SECURITY_PROTOCOL, and "
            "TIDEMILL_KAFKA_CERT_FILE if it asks for a certificate of ours"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"offers no login by {mechanism}: set TIDEMILL_KAFKA_SASL_MECHANISM to one that it offers"
    if isinstance(error, IllegalSaslStateError):
        return f"takes no login there, so not {protocol}: see TIDEMILL_KAFKA_SECURITY_PROTOCOL"
    if isinstance(error, _LOGIN_REFUSED):
        return (
            f"refuses the login ({_said(error)}): see TIDEMILL_KAFKA_SASL_USER, TIDEMILL_KAFKA_SASL_PASSWORD and "
            "TIDEMILL_KAFKA_SASL_MECHANISM"
        )
    if isinstance(error, _ENDED):
        return (
            f"ends the connection at once: it is stopping, or does not speak {protocol} there, or asks for a "
            "certificate of ours: see TIDEMILL_KAFKA_SECURITY_PROTOCOL and TIDEMILL_KAFKA_CERT_FILE"
        )
    return None


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in _ANOTHER_HOST:
        return (
            f"shows a certificate of another host ({said}): name it as its certificate does, in "
            "TIDEMILL_KAFKA_BOOTSTRAP and in the broker's advertised.listeners"
        )
    return f"shows a certificate that is not accepted ({said}): TIDEMILL_KAFKA_CA_FILE says who may sign it"


def _said(error: BaseException) -> str:
    return str(next(iter(error.args), None) or type(error).__name__)
