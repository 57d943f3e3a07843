"""What a service process does with what it was handed."""

import os

import pytest

from services.shared.health import HEALTH_VARIABLE
from services.shared.process import keep_descriptors


def test_what_was_handed_to_a_process_is_handed_on_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    readable, writable = os.pipe()
    os.set_inheritable(writable, True)
    monkeypatch.setenv(HEALTH_VARIABLE, str(writable))
    keep_descriptors()
    assert not os.get_inheritable(writable)
    os.close(readable)
    os.close(writable)
