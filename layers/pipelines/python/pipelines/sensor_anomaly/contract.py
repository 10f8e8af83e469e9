"""What a sensor promises when it reports a reading."""

from retrodict.contracts import Event, Key, field


class Reading(Event, type="sensor.reading", version=1):
    """One measurement of one sensor."""

    sensor_id: Key[str] = field(
        pattern=r"[a-z0-9-]{1,64}", description="Which sensor measured it."
    )
    value: float = field(
        ge=-40, le=125, unit="Cel", description="Measured temperature."
    )
    site: str | None = field(
        default=None, max_length=64, description="Where the sensor stands."
    )
