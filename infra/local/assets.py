"""Upload the assets of an assembly, as `cdk deploy` does before it creates anything.

The folder of a third-party layer, known by the lock file at its root, goes up as that
file alone: it is built for Lambda's processor, may weigh 250 MB, and is never loaded
here (see `lambda_runtime`).
"""

import io
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from infra.local.template import Asset, Deployment, Stack

_LOCK_FILE = "requirements.lock"


def upload(
    stacks: Iterable[Stack], deployment: Deployment, client: Callable[[str], Any]
) -> None:
    """Put every asset that a template can refer to into its bucket."""
    s3 = client("s3")
    buckets = set()
    done = set()
    for stack in stacks:
        for asset in stack.assets:
            bucket = deployment.resolve(stack.name, {"Fn::Sub": asset.bucket})
            place = bucket, asset.key
            if place in done:
                continue
            if bucket not in buckets:
                home = deployment.region == "us-east-1"
                where = {"LocationConstraint": deployment.region}
                s3.create_bucket(
                    Bucket=bucket,
                    **({} if home else {"CreateBucketConfiguration": where}),
                )
                buckets.add(bucket)
            s3.put_object(Bucket=bucket, Key=asset.key, Body=_zipped(asset))
            done.add(place)


def _zipped(asset: Asset) -> bytes:
    if asset.path.is_file():
        return asset.path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for path in _files(asset.path):
            archive.write(path, path.relative_to(asset.path))
    return buffer.getvalue()


def _files(folder: Path) -> list[Path]:
    lock = folder / _LOCK_FILE
    if lock.is_file():
        return [lock]
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
