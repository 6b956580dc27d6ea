"""How long something takes, by the clock and by the processor."""

import time
from dataclasses import dataclass


@dataclass
class Clock:
    """Adds up what passes between `start` and `stop`.

    Attributes:
        wall: seconds by the clock.
        processor: seconds of this process; what other processes take does not count.
    """

    wall: float = 0.0
    processor: float = 0.0
    _started: tuple[float, float] = (0.0, 0.0)

    def start(self) -> None:
        """From here."""
        self._started = time.monotonic(), time.process_time()

    def stop(self) -> None:
        """To here."""
        self.wall += time.monotonic() - self._started[0]
        self.processor += time.process_time() - self._started[1]
