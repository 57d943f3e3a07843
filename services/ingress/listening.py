"""Whether the ingress may listen where its settings say, and the certificate it shows there."""

import ssl
from ipaddress import ip_address
from pathlib import Path

from services.ingress.settings import IngressSettings
from services.shared.errors import SettingsInvalid
from services.shared.settings import PREFIX

_CERTIFICATE, _KEY = f"{PREFIX}INGRESS_TLS_CERTIFICATE", f"{PREFIX}INGRESS_TLS_KEY"


def require_safe(settings: IngressSettings) -> ssl.SSLContext | None:
    """The TLS to listen with; None: plain HTTP, and that is safe enough.

    Raises SettingsInvalid where tokens would cross a network readable, and for files that are no certificate with its key.
    """
    if (settings.tls_certificate is None) != (settings.tls_key is None):
        raise SettingsInvalid(f"{_CERTIFICATE} and {_KEY} need each other")
    if settings.tls_certificate and settings.tls_key:
        return _context(settings.tls_certificate, settings.tls_key)
    if not is_loopback(settings.host) and not settings.allow_plain_http:
        raise SettingsInvalid(
            f"other machines can reach the REST API on {settings.host!r}, and without TLS they send their tokens readable: "
            f"set {_CERTIFICATE} and {_KEY}, or {PREFIX}INGRESS_ALLOW_PLAIN_HTTP=true where a proxy before it has TLS"
        )
    return None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it. A name counts for what it may resolve to tomorrow, but for `localhost`."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS 1.2 and 1.3, as Python's defaults have it."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    for variable, file in ((_CERTIFICATE, certificate), (_KEY, key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise SettingsInvalid(f"{variable} names {file}, which cannot be read: {error.strerror}") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        raise SettingsInvalid(f"{certificate} and {key} are no certificate with its key: {error.reason or 'not PEM'}") from error
    return context


def _no_password() -> str:
    """Else OpenSSL asks at the terminal, which a service has not."""
    return ""
