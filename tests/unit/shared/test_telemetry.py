"""What is logged, and how often."""

import logging

from services.shared.telemetry import QuietRepeats


def record(name: str, message: str, created: float) -> logging.LogRecord:
    made = logging.LogRecord(name, logging.ERROR, "f", 1, message, None, None)
    made.created = created
    return made


def test_one_family_says_the_same_sentence_once_per_pause() -> None:
    quiet = QuietRepeats("aiokafka", 10.0)
    said = [
        quiet.filter(record("aiokafka.client", "Unable to connect", 0.0)),
        quiet.filter(record("aiokafka.client", "Unable to connect", 9.9)),
        quiet.filter(record("aiokafka.client", "Unable to update metadata", 9.9)),
        quiet.filter(record("aiokafka.conn", "Unable to connect", 9.9)),
        quiet.filter(record("aiokafka.client", "Unable to connect", 10.0)),
    ]
    assert said == [True, False, True, True, True]


def test_our_own_lines_are_never_dropped() -> None:
    quiet = QuietRepeats("aiokafka", 10.0)
    assert all(quiet.filter(record("services.scorer.host", "partitions assigned", 0.0)) for _ in range(3))
