"""Programs of container images, run as processes of this interpreter.

A docker asset of the assembly is never built here. Its folder, staged by the CDK from
the repository, is the root of the image, and SageMaker's two verbs are two programs in
it: ``train`` is functions/train_candidate/train.py, ``serve`` is
functions/serve_champion/serve.py. The import path holds the folders
``layers/*/python`` of the asset, then this interpreter's site-packages, without what is
installed in development mode: a program that forgets a layer fails here too.

What a process sees of the twin: SageMaker's folders below ``SAGEMAKER_BASE_DIR``
instead of /opt/ml, the twin's endpoint as AWS, and under a driven clock the twin's time
(see `container_launcher`). Nothing of the caller's environment is handed on. Network
isolation is kept as far as a process can: no endpoint, no region, no credentials.
"""

import mmap
import os
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from infra.local.errors import UnsupportedByTwinError
from infra.local.template import DockerImage

TRAIN: Final = Path("functions/train_candidate/train.py")
SERVE: Final = Path("functions/serve_champion/serve.py")

_LAUNCHER = Path(__file__).with_name("container_launcher.py")
_NANOSECONDS = 1_000_000_000

# Takes whole lines that a program printed.
LogSink: TypeAlias = Callable[[Sequence[str]], None]


class ClockFile:
    """The twin's instant, where child processes can read it without asking.

    Parameters
    ----------
    path
        File to create.
    instant
        The first instant.
    """

    def __init__(self, path: Path, instant: datetime) -> None:
        self.path = path
        path.write_bytes(bytes(mmap.PAGESIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        # One aligned store of eight bytes: a reader never sees half of it.
        self._nanoseconds = memoryview(self._map).cast("q")
        self.write(instant)

    def write(self, instant: datetime) -> None:
        """Show `instant` to every process that follows."""
        whole = int(instant.replace(microsecond=0).timestamp())
        self._nanoseconds[0] = whole * _NANOSECONDS + instant.microsecond * 1000

    def close(self) -> None:
        """Let go of the file."""
        self._nanoseconds.release()
        self._map.close()


class Log:
    """What the program of one job or fleet printed, in a file.

    Programs write to the file themselves, unbuffered, so all they printed before they
    answered is there when the answer is; `drain` then hands on the new whole lines.
    """

    def __init__(self, path: Path, sink: LogSink) -> None:
        self.path = path
        self._sink = sink
        self._lock = threading.Lock()
        self._offset = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def drain(self, *, is_over: bool = False) -> None:
        """Hand on the new whole lines, and if `is_over` the unfinished last one."""
        with self._lock:
            if self.path.stat().st_size == self._offset:
                return
            with self.path.open("rb") as file:
                file.seek(self._offset)
                text = file.read()
            end = len(text) if is_over else text.rfind(b"\n") + 1
            self._offset += end
            lines = text[:end].decode(errors="replace").splitlines()
            if lines:
                self._sink(lines)

    def text(self) -> str:
        """Return everything that was printed."""
        return self.path.read_text(errors="replace")


class Images:
    """The images that the assembly can name."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}

    def add(self, images: Iterable[tuple[str, DockerImage]]) -> None:
        """Take docker assets, each with the URI that the deployment gives it."""
        self._folders |= {uri: image.folder for uri, image in images}

    def folder(self, uri: str, place: str) -> Path:
        """Return the staged folder of an image.

        Raises
        ------
        UnsupportedByTwinError
            If `uri` is not that of a docker asset of the assembly.
        """
        if uri not in self._folders:
            raise UnsupportedByTwinError(
                place,
                "AWS::SageMaker",
                f"the image {uri!r}, which is no docker asset of the assembly "
                f"({sorted(self._folders)})",
            )
        return self._folders[uri]


class Containers:
    """Starts programs of images.

    Parameters
    ----------
    images
        The images that can be named.
    endpoint_url
        What programs call instead of AWS.
    region
        Region they are in.
    clock_file
        The driven time, or None if the clock is the machine's.
    """

    def __init__(
        self,
        images: Images,
        endpoint_url: str,
        region: str,
        clock_file: ClockFile | None,
    ) -> None:
        self.images = images
        self._endpoint_url = endpoint_url
        self._region = region
        self._clock_file = clock_file

    def start(  # noqa: PLR0913 - all that decides about a process, by name
        self,
        folder: Path,
        program: Path,
        *,
        base: Path,
        variables: Mapping[str, str],
        log: Log,
        is_isolated: bool,
    ) -> "subprocess.Popen[bytes]":
        """Start a program of an image.

        Parameters
        ----------
        folder
            The image's root.
        program
            Path below it.
        base
            Stands for /opt/ml.
        variables
            Environment variables of the job or model; the twin's own win.
        log
            Takes all that is printed.
        is_isolated
            Whether the program may know how to reach AWS.
        """
        command = [sys.executable, "-S"]
        if self._clock_file is not None:
            command += [str(_LAUNCHER), str(self._clock_file.path)]
        with log.path.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - this interpreter, the app's program
                [*command, str(folder / program)],
                env={
                    **variables,
                    **self._environment(folder, base, is_isolated=is_isolated),
                },
                cwd=base,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _environment(
        self, folder: Path, base: Path, *, is_isolated: bool
    ) -> dict[str, str]:
        layers = sorted(map(str, folder.glob("layers/*/python")))
        aws = {
            "AWS_ACCESS_KEY_ID": "twin",
            "AWS_DEFAULT_REGION": self._region,
            "AWS_ENDPOINT_URL": self._endpoint_url,
            "AWS_REGION": self._region,
            "AWS_SECRET_ACCESS_KEY": "twin",
        }
        return {
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "HOME": str(base),
            "LANG": "en_US.UTF-8",
            "PATH": os.defpath,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": os.pathsep.join([*layers, sysconfig.get_paths()["purelib"]]),
            "PYTHONUNBUFFERED": "1",
            "SAGEMAKER_BASE_DIR": str(base),
            "TZ": "UTC",
            **({} if is_isolated else aws),
        }
