"""The topics that always exist, on a real broker."""

import pytest

from services.shared.errors import SettingsInvalid
from services.shared.settings import KafkaSettings
from services.shared.topics import ensure_topics


async def test_making_the_topics_again_changes_nothing(kafka: KafkaSettings) -> None:
    await ensure_topics(kafka)


async def test_another_number_of_outcome_partitions_stops_the_start(kafka: KafkaSettings) -> None:
    other = kafka.model_copy(update={"outcome_partitions": kafka.outcome_partitions + 1})
    with pytest.raises(SettingsInvalid, match=f"has {kafka.outcome_partitions} partitions: set {kafka.outcome_partitions}"):
        await ensure_topics(other)
