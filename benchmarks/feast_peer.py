"""Join labels with Feast, in an environment of its own, for `benchmarks.training_sets`.

Feast wants older packages than ours, so it cannot run beside us. It reads the same
tables by its DuckDB store, and prints seconds of the processor, the peak of resident
memory and the joined values by label.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from datetime import timedelta
from pathlib import Path

import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.infra.offline_stores.duckdb import DuckDBOfflineStoreConfig
from feast.types import Float64


def store_of(folder: Path, views: int, home: Path) -> FeatureStore:
    """Return a store of some views of a folder, registered in another."""
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            provider="local",
            registry=str(home / "registry.db"),
            online_store=None,
            offline_store=DuckDBOfflineStoreConfig(),
            entity_key_serialization_version=3,
        )
    )
    key = Entity(name="key", join_keys=["key"])
    registered = [
        FeatureView(
            name=f"view_{n}",
            entities=[key],
            ttl=timedelta(0),
            schema=[Field(name=f"value_{n}", dtype=Float64)],
            source=FileSource(
                path=str(folder / f"view_{n}.parquet"), timestamp_field="time"
            ),
        )
        for n in range(views)
    ]
    store.apply([key, *registered])
    return store


def join(store: FeatureStore, folder: Path, views: int) -> pd.DataFrame:
    """Return the labels with what each view says at their time."""
    labels = pd.read_parquet(folder / "labels.parquet")
    labels = labels.rename(columns={"time": "event_timestamp"})
    names = [f"view_{n}:value_{n}" for n in range(views)]
    return store.get_historical_features(entity_df=labels, features=names).to_df()


def main() -> None:
    """Join once unmeasured, over a small log, and once measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--small", type=Path, required=True)
    parser.add_argument("--views", type=int, required=True)
    chosen = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as home:
        small = Path(home, "small")
        small.mkdir()
        join(store_of(chosen.small, chosen.views, small), chosen.small, chosen.views)
        store = store_of(chosen.folder, chosen.views, Path(home))
        began = time.process_time()
        found = join(store, chosen.folder, chosen.views)
        took_s = time.process_time() - began
    status = Path("/proc/self/status").read_text(encoding="ascii")
    found = found.sort_values("label")
    told = {
        "s": took_s,
        "peak_mib": int(status.split("VmHWM:")[1].split()[0]) / 1024,
        "labels": found["label"].tolist(),
        "values": [
            [None if pd.isna(v) else v for v in found[f"value_{n}"].tolist()]
            for n in range(chosen.views)
        ],
    }
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
