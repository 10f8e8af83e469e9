"""What the anomaly model sees of a sensor."""

from retrodict.features import features
from retrodict.vocabulary import (
    count,
    difference,
    last,
    last_value,
    maximum,
    mean,
    minimum,
    same_hour_mean,
    std,
)

from pipelines.sensor_anomaly.contract import Reading


@features(Reading, lateness="10m", max_rate="1/s")
class Sensor:
    """Moving averages of a sensor and how far its reading is from them."""

    latest = last_value(Reading.value, last("10m"))
    mean_3 = mean(Reading.value, last(3))
    mean_10m = mean(Reading.value, last("10m"))
    spread_10m = std(Reading.value, last("10m"))
    low_10m = minimum(Reading.value, last("10m"))
    high_10m = maximum(Reading.value, last("10m"))
    count_10m = count(Reading.value, last("10m"))
    change = difference(Reading.value)
    deviation = Reading.value - mean_10m
    spread_24 = std(Reading.value, last(24))
    trend = mean_3 - mean(Reading.value, last(24))
    baseline = same_hour_mean(Reading.value, days=7)
    residual = Reading.value - baseline
