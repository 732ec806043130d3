"""A real Orthanc with its DICOMweb plugin, and a proxy before it that counts what passes and can hold it up."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import pydicom
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from dicomweb_client.api import DICOMwebClient

from participant.data.importing.pacs_connection import Credentials, connected

PROGRAM = Path("/usr/sbin/Orthanc")
PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
MISSING = None if PROGRAM.exists() and PLUGIN.exists() else "Orthanc and its DICOMweb plugin are not installed"
USER, PASSWORD = "reader", "correct horse"
_DAY = timedelta(days=1)
_FILE = re.compile(r"/studies/[0-9.]+/series/([0-9.]+)/instances/([0-9.]+)$")


@dataclass(frozen=True)
class Orthanc:
    """One that runs."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/dicom-web"

    def client(self) -> AbstractContextManager[DICOMwebClient]:
        return connected(self.url, Credentials(user=USER, password=PASSWORD), None)

    def store(self, paths: list[Path]) -> None:
        """STOW-RS."""
        with self.client() as client:
            client.store_instances([pydicom.dcmread(path) for path in paths])


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """An empty one on a free port; gone, with its process, at the end."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with subprocess.Popen([PROGRAM, folder / "orthanc.json"], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = []
        try:
            for line in process.stderr:  # ends with the process, if it does not start
                said.append(line.decode())
                if b"Orthanc has started" in line:
                    break
            else:
                raise RuntimeError("".join(said))
            threading.Thread(target=process.stderr.read, daemon=True).start()  # or it would wait for a reader
            yield Orthanc(port)
        finally:
            process.terminate()


class Proxy(ThreadingHTTPServer):
    """Passes requests on; of files it knows which were asked for and which arrived whole.

    After `open_for` files it holds all further requests for files until `release`, which sends nothing to those that
    wait. `held` is set when as many wait as the importing process has connections.
    """

    daemon_threads = True
    scheme = "http"

    def __init__(self, target: int, open_for: int | None = None, connections: int = 4) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target, self.open_for, self.connections = target, open_for, connections
        self.asked: Counter[str] = Counter()
        self.delivered: Counter[str] = Counter()
        self.paths: list[str] = []
        self.authorizations: set[str] = set()
        self.held, self._free, self._lock, self._waiting = threading.Event(), threading.Event(), threading.Lock(), 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}/dicom-web"

    def release(self) -> None:
        self._free.set()

    def admits(self, file: str) -> bool:
        """Whether a request for a file may pass; if not, this waits for the release first."""
        with self._lock:
            passes = self.open_for is None or self.asked.total() < self.open_for
            self.asked[file] += 1
            self._waiting += not passes
            if self._waiting == self.connections:
                self.held.set()
        return passes or not self._free.wait()


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        parts = urlsplit(self.path)  # absolute, where the client takes this for its proxy
        file = _FILE.search(parts.path)
        self.server.paths.append(self.path)
        self.server.authorizations.add(self.headers.get("Authorization", ""))
        if file and not self.server.admits(file[2]):
            self.close_connection = True
            return
        dropped = ("host", "connection", "accept-encoding")
        headers = {name: value for name, value in self.headers.items() if name.lower() not in dropped}
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.target)) as onward:
            onward.request("GET", f"{parts.path}?{parts.query}", headers=headers)
            answer = onward.getresponse()
            body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.getheader("Content-Type", ""))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        if file:
            self.server.delivered[file[2]] += 1

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Not on the terminal."""


@contextmanager
def running_proxy(target: int, open_for: int | None = None, certificate: Path | None = None) -> Iterator[Proxy]:
    """One that passes on to a port of this machine; over TLS, if the certificate that it makes is to lie somewhere."""
    with Proxy(target, open_for) as proxy:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, _make_certificate(certificate))
            proxy.socket = context.wrap_socket(proxy.socket, server_side=True)
            proxy.scheme = "https"
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.release()
            proxy.shutdown()
            thread.join()


def _make_certificate(file: Path) -> Path:
    """A self-signed one for this machine in `file`; where its key is."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hospital")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + _DAY)
    builder = builder.add_extension(
        x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
    )
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    private = file.with_suffix(".key")
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return private
