"""Why a connection to a broker fails: TLS, login, protocol, and the variable to check.

The client logs why it could not connect, and raises only that there is no connection. So the reason of each failed
connection is stored here, for the caller that gets no answer. It is global in a process, which has one Kafka.
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
    """Store why a connection to `address` failed; `how`: the arguments of the attempt."""
    reason = explain(error, str(how.get("security_protocol")), str(how.get("sasl_mechanism")))
    if reason is None:
        forget(address)
    else:
        _noted[address] = (monotonic(), f"{address[0]}:{address[1]} {reason}")


def forget(address: _Address) -> None:
    """Forget the error of `address`: it accepts the connection now, or is unavailable."""
    _noted.pop(address, None)


def since(began_s: float) -> str | None:
    """Return the last error since `began_s` (monotonic time); None if there was none."""
    noted_s, reason = max(_noted.values(), default=(0.0, None))
    return reason if noted_s >= began_s else None


def explain(error: BaseException, protocol: str, mechanism: str) -> str | None:
    """Return why a broker refuses the connection, and what to do; None if it is just unavailable."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error)
    if isinstance(error, ssl.SSLError):
        return (
            f"breaks TLS off ({error}): see TIDEMILL_KAFKA_SECURITY_PROTOCOL, and "
            "TIDEMILL_KAFKA_CERT_FILE if it requires a client certificate"
        )
    if isinstance(error, UnsupportedSaslMechanismError):
        return f"offers no login by {mechanism}: set TIDEMILL_KAFKA_SASL_MECHANISM to one that it offers"
    if isinstance(error, IllegalSaslStateError):
        return f"accepts no login at this port, so it is not {protocol}: see TIDEMILL_KAFKA_SECURITY_PROTOCOL"
    if isinstance(error, _LOGIN_REFUSED):
        return (
            f"refuses the login ({_said(error)}): see TIDEMILL_KAFKA_SASL_USER, TIDEMILL_KAFKA_SASL_PASSWORD and "
            "TIDEMILL_KAFKA_SASL_MECHANISM"
        )
    if isinstance(error, _ENDED):
        return (
            f"ends the connection at once: it is stopping, or does not use {protocol} at this port, or requires a "
            "client certificate: see TIDEMILL_KAFKA_SECURITY_PROTOCOL and TIDEMILL_KAFKA_CERT_FILE"
        )
    return None


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    said = error.verify_message.rstrip(".")
    if error.verify_code in _ANOTHER_HOST:
        return (
            f"shows a certificate of another host ({said}): use the name of its certificate in "
            "TIDEMILL_KAFKA_BOOTSTRAP and in the broker's advertised.listeners"
        )
    return f"shows a certificate that is not accepted ({said}): TIDEMILL_KAFKA_CA_FILE must hold its signer"


def _said(error: BaseException) -> str:
    return str(next(iter(error.args), None) or type(error).__name__)
