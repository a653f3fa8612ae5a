"""Who a server must be, and who we are to it: TLS for APIs with certificates of their own."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Line:
    """How the connections of one account are made, where that is not as for everyone."""

    tls: ssl.SSLContext | None = None
    """None: the certificates that everyone trusts."""
    server_name: str = ""
    """What the server's certificate must say, where that is not the host of the URL."""
    proxy: str | None = None


def tls_of(
    *, ca_file: str | None = None, certificate_file: str | None = None, key_file: str | None = None, verify: bool = True
) -> ssl.SSLContext:
    """A context that trusts the authorities in a file, and presents a certificate. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=ca_file)
    if certificate_file is not None:
        context.load_cert_chain(certificate_file, key_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
