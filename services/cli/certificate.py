"""The ingress' certificate as this machine's own clients meet it: the name they ask for, and why they trust it."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import certifi
from cryptography import x509

from services.cli.ports import LOOPBACK


def names_in(certificate: Path) -> tuple[str, ...]:
    """DNS names and addresses it is for, in its order, of the first certificate in the PEM file."""
    leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return (*names.get_values_for_type(x509.DNSName), *addresses)


def choose_name(address: str, names: Sequence[str]) -> str:
    """What to call a listener on `address` so that its certificate fits: the address, `localhost` on loopback, or the first name it has."""
    wanted = (address, "localhost") if address == LOOPBACK else (address,)
    others = (name for name in names if "*" not in name and name != "localhost")
    return next((name for name in (*wanted, *others) if name in names), address)


def write_ca_bundle(bundle: Path, certificate: Path) -> None:
    """The usual roots and this certificate, so that one that nobody else signed is trusted too."""
    roots = Path(certifi.where()).read_text()
    bundle.write_text(f"{roots.rstrip()}\n{certificate.read_text()}")


def trusting(bundle: Path) -> ssl.SSLContext:
    """For a client: what is in the bundle, also where it is signed by one who is not."""
    context = ssl.create_default_context(cafile=bundle)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
