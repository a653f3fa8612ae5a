"""TLS before something that speaks plain HTTP, with authorities and certificates made for the occasion."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Front:
    """`url` is where it listens, `ca` the file of its authority, `client` those of a certificate for a client."""

    url: str
    ca: Path
    client: tuple[Path, Path]
    visitors: list[str] = field(default_factory=list)
    """Common names of the certificates that clients came with; empty without one."""


@contextmanager
def tls_front(url: str, folder: Path, *, host: str = "127.0.0.1") -> Iterator[Front]:
    """Serve what is at `url` under TLS, by certificates for `host`."""
    authority = _certificate("authority of the test", folder / "ca")
    _certificate(host, folder / "server", signer=authority, host=host)
    _certificate("visitor", folder / "client", signer=authority)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(folder / "ca.crt"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    front = Front("", folder / "ca.crt", (folder / "client.crt", folder / "client.key"))
    ready, loop, stop = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def main() -> None:
        server = await asyncio.start_server(lambda r, w: _relay(front, url, r, w), "127.0.0.1", 0, ssl=context)
        front.url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        server.close()
        relays = asyncio.all_tasks() - {asyncio.current_task()}
        for task in relays:
            task.cancel()
        await asyncio.gather(*relays, return_exceptions=True)

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield front
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


async def _relay(front: Front, url: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    told = writer.get_extra_info("peercert") or {}
    front.visitors.append(next((value for pair in told.get("subject", ()) for name, value in pair), ""))
    place = urlsplit(url)
    far_reader, far_writer = await asyncio.open_connection(place.hostname, place.port)
    both = [asyncio.ensure_future(_copy(reader, far_writer)), asyncio.ensure_future(_copy(far_reader, writer))]
    try:
        # Cancelled only when all of it ends: there is nobody to be told.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        for each in (far_writer, writer):
            each.transport.abort()
            with contextlib.suppress(OSError, ssl.SSLError):
                await each.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()


def _certificate(
    name: str,
    place: Path,
    *,
    signer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    host: str = "",
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A certificate and its key, in files; without a signer it is an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer[0].subject if signer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=signer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if signer is not None:
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer[1].public_key())
        builder = builder.add_extension(issuer, critical=False)
    if host:
        known: x509.GeneralName = x509.IPAddress(ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
        builder = builder.add_extension(x509.SubjectAlternativeName([known]), critical=False)
    made = builder.sign(signer[1] if signer else key, hashes.SHA256())
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    place.with_suffix(".crt").write_bytes(made.public_bytes(pem))
    place.with_suffix(".key").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return made, key
