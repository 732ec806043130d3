"""A certificate authority of a test's own, and a coordinator behind TLS with a certificate of it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tiny_federation import Server, wait_until

from coordinator.app import create_app

_NOW = datetime.datetime.now(datetime.UTC)


@dataclass
class Authority:
    """Its own certificate lies in `file`."""

    file: Path
    name: str = "Hospital CA"

    def __post_init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        certificate = (
            self._begun(self._subject, self._key.public_key(), 365)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, file: Path, days: int = 90, name: str = "localhost") -> Path:
        """A key and certificate, in one file, of a machine of that name (127.0.0.1 too)."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._begun(subject, key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
        return file

    def _begun(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_NOW - datetime.timedelta(days=1))
            .not_valid_after(_NOW + datetime.timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(own, critical=False)
        )


@contextlib.contextmanager
def behind_tls(server: Server, certificate: Path) -> Iterator[str]:
    """The same coordinator over HTTPS: its address."""
    config = uvicorn.Config(
        create_app(server.services),
        port=0,
        log_config=None,
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
        ssl_keyfile=certificate,
    )
    secure = uvicorn.Server(config)
    thread = threading.Thread(target=secure.run, daemon=True)
    thread.start()
    wait_until(lambda: secure.started, "the server to start")
    try:
        yield f"https://localhost:{secure.servers[0].sockets[0].getsockname()[1]}"
    finally:
        secure.should_exit = True
        thread.join()
