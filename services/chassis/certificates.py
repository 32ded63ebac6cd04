"""How the mesh's parts may be reached: by anybody's word on the loopback, else by certificates.

Where certificates are given, every server asks its callers for theirs, and both sides trust what
one authority has signed, and nothing else. Credentials made for one machine open no port beyond it.
"""

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import grpc

from services.chassis.environment import ConfigurationError

DEVELOPMENT = "development-"
"""How a token begins that a launcher has made up for a mesh on one machine."""
TOKEN_CHARACTERS_MIN = 32


class Reachable(Protocol):
    """What a service is told of how it may be reached."""

    @property
    def grpc_address(self) -> str:
        """Where it listens."""
        ...

    @property
    def mesh_token(self) -> str:
        """What opens internal RPCs."""
        ...

    @property
    def tls_cert(self) -> str:
        """Path of its certificate, or nothing."""
        ...

    @property
    def tls_key(self) -> str:
        """Path of that one's key."""
        ...

    @property
    def tls_ca(self) -> str:
        """Path of the authority's certificate."""
        ...


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM: one's own certificate (and chain), its key, and the authority's certificate."""

    certificate: Path
    key: Path
    authority: Path

    def for_server(self) -> grpc.ServerCredentials:
        """Of a gRPC server that answers nobody without a certificate."""
        pair = (self.key.read_bytes(), self.certificate.read_bytes())
        return grpc.ssl_server_credentials([pair], self.authority.read_bytes(), True)

    def for_channel(self) -> grpc.ChannelCredentials:
        """Of a gRPC channel."""
        return grpc.ssl_channel_credentials(
            self.authority.read_bytes(), self.key.read_bytes(), self.certificate.read_bytes()
        )

    def for_http(self) -> ssl.SSLContext:
        """Of an HTTP server that answers nobody without a certificate."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.authority))
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


def certificates_of(config: Reachable, *more_addresses: str) -> Certificates | None:
    """The certificates of a service, None on the loopback without; checks that they are enough.

    Raises:
        ConfigurationError: one is missing, or an address is beyond the loopback and its credentials
        are not fit for that.
    """
    tls = read_certificates(config.tls_cert, config.tls_key, config.tls_ca)
    for address in (config.grpc_address, *more_addresses):
        if _is_loopback(address.rpartition(":")[0]):
            continue
        if tls is None:
            raise ConfigurationError(
                f"{address} is beyond the loopback: TRINE_TLS_CERT, TRINE_TLS_KEY and TRINE_TLS_CA"
                " must be set"
            )
        token = config.mesh_token
        if token.startswith(DEVELOPMENT) or len(token) < TOKEN_CHARACTERS_MIN:
            raise ConfigurationError(
                f"{address} is beyond the loopback: TRINE_MESH_TOKEN must have"
                f" {TOKEN_CHARACTERS_MIN} characters at least, and not be a development mesh's"
            )
    return tls


def read_certificates(certificate: str, key: str, authority: str) -> Certificates | None:
    """Certificates by their paths; None if there are none.

    Raises:
        ConfigurationError: some are given and some are not, or one is not there.
    """
    paths = {"TRINE_TLS_CERT": certificate, "TRINE_TLS_KEY": key, "TRINE_TLS_CA": authority}
    if not any(paths.values()):
        return None
    for variable, path in paths.items():
        if not path:
            raise ConfigurationError(f"{variable} is not set, and the others of TRINE_TLS_ are")
        if not Path(path).is_file():
            raise ConfigurationError(f"{variable} names no file")
    return Certificates(Path(certificate), Path(key), Path(authority))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
