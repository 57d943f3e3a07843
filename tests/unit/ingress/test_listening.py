"""Where the ingress refuses to listen, and with what certificate it would."""

from pathlib import Path

import pytest

from services.ingress.listening import is_loopback, require_safe
from services.ingress.settings import IngressSettings
from services.shared.errors import SettingsInvalid
from tests.certificates import write_certificate


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_tls(host: str) -> None:
    assert is_loopback(host)
    assert require_safe(IngressSettings(host=host)) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "fd00::1", "", "penstock.example.org", "localhost.example.org"])
def test_beyond_loopback_plain_http_has_to_be_asked_for(host: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"PENSTOCK_INGRESS_TLS_CERTIFICATE.*PENSTOCK_INGRESS_ALLOW_PLAIN_HTTP") as refused:
        require_safe(IngressSettings(host=host))
    assert "\n" not in str(refused.value)
    assert require_safe(IngressSettings(host=host, allow_plain_http=True)) is None


def test_a_certificate_with_its_key_is_enough(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, "localhost")
    assert require_safe(IngressSettings(host="0.0.0.0", tls_certificate=certificate, tls_key=key)) is not None


def test_files_that_are_no_certificate_with_its_key_are_refused(tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path / "one", "localhost")
    _, other_key = write_certificate(tmp_path / "other", "localhost")
    _, locked_key = write_certificate(tmp_path / "locked", "localhost", password=b"x")
    for wrong_certificate, wrong_key, said in (
        (certificate, None, "need each other"),
        (None, key, "need each other"),
        (tmp_path / "nothing", key, "cannot be read: No such file"),
        (certificate, tmp_path, "cannot be read: Is a directory"),
        (certificate, other_key, "are no certificate with its key"),
        (certificate, locked_key, "are no certificate with its key"),
        (key, certificate, "are no certificate with its key"),
    ):
        with pytest.raises(SettingsInvalid, match=said):
            require_safe(IngressSettings(tls_certificate=wrong_certificate, tls_key=wrong_key))
