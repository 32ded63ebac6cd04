"""Between services: with certificates, nobody is answered without one of the same authority."""

import dataclasses
import datetime
import ipaddress
import os
import ssl
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.auth import Authenticator
from services.chassis.certificates import Certificates, certificates_of, read_certificates
from services.chassis.channel import open_channel
from services.chassis.clock import SystemClock
from services.chassis.environment import ConfigurationError
from services.chassis.interceptors import CallInterceptor
from services.chassis.server import serving
from services.gateway.http import listening
from tests.support.server import MESH_TOKEN, free_address, generous, resolve

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Told:
    """What a service is told."""

    grpc_address: str
    mesh_token: str
    tls_cert: str
    tls_key: str
    tls_ca: str


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        signed = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._write("ca", signed.sign(self._key, hashes.SHA256()))

    def sign(self, name: str) -> Certificates:
        """A certificate for a server and client at once."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = self._builder(subject, key.public_key())
        for extension in (x509.SubjectAlternativeName([address]), x509.ExtendedKeyUsage(uses)):
            builder = builder.add_extension(extension, critical=False)
        self._write(name, builder.sign(self._key, hashes.SHA256()))
        path = self._folder / f"{name}.key"
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Certificates(self._folder / f"{name}.pem", path, self._folder / "ca.pem")

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - DAY)
            .not_valid_after(NOW + DAY)
        )

    def _write(self, name: str, certificate: x509.Certificate) -> None:
        path = self._folder / f"{name}.pem"
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ours")


def interceptor() -> CallInterceptor:
    authenticator = Authenticator(resolve, MESH_TOKEN, SystemClock())
    return CallInterceptor(authenticator, {}, generous())


async def answered(channel: grpc.aio.Channel) -> bool:
    """Whether a channel gets to the service behind it."""
    stub = health_pb2_grpc.HealthStub(channel)
    try:
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=3)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_a_service_answers_those_alone_whom_its_authority_has_signed(
    authority: Authority, tmp_path: Path
) -> None:
    server, client = authority.sign("server"), authority.sign("client")
    stranger = Authority(tmp_path / "theirs").sign("client")
    posing = Certificates(stranger.certificate, stranger.key, server.authority)
    anonymous = grpc.ssl_channel_credentials(server.authority.read_bytes())
    address = free_address()
    async with serving(address, interceptor(), [], lambda _: None, server):
        async with open_channel(address, MESH_TOKEN, client) as channel:
            assert await answered(channel)
        async with open_channel(address, MESH_TOKEN) as channel:
            assert not await answered(channel)
        async with open_channel(address, MESH_TOKEN, posing) as channel:
            assert not await answered(channel)
        async with grpc.aio.secure_channel(address, anonymous) as channel:
            assert not await answered(channel)


async def test_a_caller_tells_nothing_to_a_server_that_another_authority_has_signed(
    authority: Authority, tmp_path: Path
) -> None:
    stranger, address = Authority(tmp_path / "theirs").sign("server"), free_address()
    async with (
        serving(address, interceptor(), [], lambda _: None, stranger),
        open_channel(address, MESH_TOKEN, authority.sign("client")) as channel,
    ):
        assert not await answered(channel)


async def test_the_http_listener_asks_for_a_certificate_too(authority: Authority) -> None:
    server, client, address = authority.sign("server"), authority.sign("client"), free_address()
    authenticator = Authenticator(resolve, MESH_TOKEN, SystemClock())
    known = ssl.create_default_context(cafile=str(client.authority))
    unknown = ssl.create_default_context(cafile=str(client.authority))
    known.load_cert_chain(client.certificate, client.key)
    async with (
        listening(address, authenticator, {}, generous(), [], tls=server),
        aiohttp.ClientSession() as session,
    ):
        async with session.get(f"https://{address}/", ssl=known) as response:
            assert response.status == 404
        for url, context in ((f"https://{address}/", unknown), (f"http://{address}/", known)):
            with pytest.raises(aiohttp.ClientError):
                await session.get(url, ssl=context)


def test_some_of_three_files_are_no_certificates(authority: Authority) -> None:
    good = authority.sign("server")
    assert read_certificates("", "", "") is None
    paths = [str(good.certificate), str(good.key), str(good.authority)]
    assert read_certificates(*paths) == good
    for place in range(3):
        for wrong, words in (("", "is not set"), ("/nowhere", "names no file")):
            given = [*paths[:place], wrong, *paths[place + 1 :]]
            with pytest.raises(ConfigurationError, match=words):
                read_certificates(*given)


@pytest.mark.parametrize(
    ("address", "token", "is_certified", "said"),
    [
        ("0.0.0.0:1", "x" * 40, False, "TRINE_TLS_CERT"),
        ("[::]:1", "x" * 40, False, "TRINE_TLS_CERT"),
        ("trainer.internal:1", "x" * 40, False, "TRINE_TLS_CERT"),
        ("0.0.0.0:1", "development-" + "x" * 40, True, "TRINE_MESH_TOKEN"),
        ("0.0.0.0:1", "short", True, "TRINE_MESH_TOKEN"),
    ],
)
def test_a_port_beyond_the_loopback_wants_credentials_that_are_fit_for_it(
    authority: Authority, address: str, token: str, *, is_certified: bool, said: str
) -> None:
    files = authority.sign("server")
    paths = [str(path) for path in (files.certificate, files.key, files.authority)]
    told = Told(address, token, *(paths if is_certified else ["", "", ""]))
    with pytest.raises(ConfigurationError, match=said) as caught:
        certificates_of(told)
    assert token not in str(caught.value)
    fit = Told(address, "x" * 40, *paths)
    assert certificates_of(fit, address) == files
    inside = Told("127.0.0.1:1", token, "", "", "")
    assert certificates_of(inside, "localhost:1", "[::1]:1") is None
    with pytest.raises(ConfigurationError, match=said):
        certificates_of(dataclasses.replace(told, grpc_address="127.0.0.1:1"), address)


def test_a_service_that_may_not_be_reached_as_it_is_told_ends_and_says_why() -> None:
    addresses = ("SCHEDULER", "TRIPLETS", "SERVING", "METRICS", "GRPC")
    environment = {f"TRINE_{name}_ADDRESS": "127.0.0.1:1" for name in addresses}
    environment |= {
        "TRINE_HTTP_ADDRESS": "0.0.0.0:1",
        "TRINE_MESH_TOKEN": "hunter2",
        "TRINE_ARTIFACTS_URL": "memory://",
        "TRINE_POSTGRES_DSN": "postgresql://trine:hunter2@127.0.0.1:1/none",
    }
    for more, said in (
        ({}, "misconfigured: 0.0.0.0:1 is beyond"),
        ({"TRINE_CALLS_AT_ONCE": "many"}, "misconfigured: TRINE_CALLS_AT_ONCE is not of type int"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "services.gateway"],
            env=os.environ | environment | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith(said)
        assert "Traceback" not in done.stderr
        assert "hunter2" not in done.stdout + done.stderr
