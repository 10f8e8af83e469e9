"""What a sensor promises when it reports a reading."""

from typing import Final

from retrodict.contracts import Event, Key, field

LOWEST: Final = -40
HIGHEST: Final = 125
"""What a sensor can measure, degrees Celsius."""


class Reading(Event, type="sensor.reading", version=1):
    """One measurement of one sensor."""

    sensor_id: Key[str] = field(
        pattern=r"[a-z0-9-]{1,64}", description="Which sensor measured it."
    )
    value: float = field(
        ge=LOWEST, le=HIGHEST, unit="Cel", description="Measured temperature."
    )
    site: str | None = field(
        default=None, max_length=64, description="Where the sensor stands."
    )
