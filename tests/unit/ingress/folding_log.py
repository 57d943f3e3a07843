"""A control log without a broker: what is published is folded at once. For tests of routes."""

from services.shared.control_events import ControlEvent
from services.shared.endpoints import ControlState, apply_event
from services.shared.event_log import EventLog
from services.shared.settings import KafkaSettings


class FoldingLog(EventLog):
    def __init__(self, state: ControlState) -> None:
        super().__init__(KafkaSettings())
        self._state = state

    def is_confirmed(self) -> bool:
        return True

    async def refresh(self) -> ControlState:
        return self._state

    async def publish(self, event: ControlEvent) -> ControlState:
        async with self._folded:
            self._state = apply_event(self._state, self._state.next_offset, event)
            self._folded.notify_all()
        if verdict := self._state.verdicts[event.event_id]:
            raise verdict
        return self._state
