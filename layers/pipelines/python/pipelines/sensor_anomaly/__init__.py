"""Unsupervised anomaly detection on sensor readings, keyed by sensor."""

from retrodict.pipeline import Pipeline

from pipelines.sensor_anomaly.features import Sensor

pipeline = Pipeline("sensor_anomaly", features=[Sensor])
