"""Unsupervised anomaly detection on sensor readings, keyed by sensor."""

from retrodict.pipeline import Pipeline

from pipelines.sensor_anomaly.features import Sensor
from pipelines.sensor_anomaly.model import model

pipeline = Pipeline("sensor_anomaly", features=[Sensor], model=model)
