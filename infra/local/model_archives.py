"""The archives that SageMaker moves between S3 and containers.

What leaves a job is packed so that the same files give the same bytes: in order of
name, owned by nobody, at time zero. What enters an endpoint is unpacked with tarfile's
``data`` filter, which refuses paths and links that lead out of the folder.
"""

import gzip
import io
import tarfile
from pathlib import Path

from infra.local.errors import TwinError


class ArchiveError(TwinError):
    """A model archive cannot be unpacked."""


def pack(folder: Path) -> bytes:
    """Return a folder's files as model.tar.gz.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     _ = Path(name, "a").write_text("1")
    ...     pack(Path(name)) == pack(Path(name))
    True
    """
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(folder.rglob("*")):
            archive.add(
                path,
                str(path.relative_to(folder)),
                recursive=False,
                filter=_without_traces,
            )
    return gzip.compress(plain.getvalue(), mtime=0)


def unpack(content: bytes, folder: Path) -> None:
    """Unpack model.tar.gz below `folder`.

    Raises
    ------
    ArchiveError
        If it is no such archive or leads out of the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, OSError, EOFError) as error:
        raise ArchiveError(f"the model archive cannot be unpacked: {error}") from error


def _without_traces(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = 0
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry
