"""How this machine's clients call the ingress."""

from pathlib import Path

import certifi
import pytest

from services.cli.certificate import choose_name, names_in, trusting, write_ca_bundle
from services.cli.stack import ingress_url
from tests.certificates import write_certificate


@pytest.mark.parametrize(
    ("address", "names", "chosen"),
    [
        pytest.param("127.0.0.1", ("a.example", "localhost", "127.0.0.1"), "127.0.0.1", id="the address, where the certificate has it"),
        pytest.param("127.0.0.1", ("a.example", "localhost"), "localhost", id="localhost for loopback"),
        pytest.param("10.0.0.5", ("localhost", "a.example"), "a.example", id="localhost for nothing but loopback"),
        pytest.param("127.0.0.1", ("*.example", "b.example"), "b.example", id="no wildcard: it is nobody's name"),
        pytest.param("10.0.0.5", (), "10.0.0.5", id="the address, where there is no name"),
    ],
)
def test_the_name_that_fits_the_certificate(address: str, names: tuple[str, ...], chosen: str) -> None:
    assert choose_name(address, names) == chosen


def test_the_address_of_the_rest_api(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "penstock.example", "::1")
    assert names_in(certificate) == ("penstock.example", "::1")
    assert ingress_url(("0.0.0.0", 80), None) == "http://127.0.0.1:80"
    assert ingress_url(("::1", 80), None) == "http://[::1]:80"
    assert ingress_url(("::1", 443), certificate) == "https://[::1]:443"
    assert ingress_url(("0.0.0.0", 443), certificate) == "https://penstock.example:443"
    assert names_in(write_certificate(tmp_path)[0]) == ()


def test_what_nobody_else_signed_is_trusted_beside_the_usual_roots(tmp_path: Path) -> None:
    certificate, _ = write_certificate(tmp_path, "localhost")
    write_ca_bundle(tmp_path / "ca.pem", certificate)
    usual, trusted = (trusting(Path(bundle)).cert_store_stats()["x509"] for bundle in (certifi.where(), tmp_path / "ca.pem"))
    assert trusted == usual + 1 > 50
