"""`train` keeps SageMaker's training contract, and its bytes depend on nothing else."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest
from retrodict.artifact import Artifact, digest_of
from retrodict.drift import Profile
from retrodict.training_sets import INJECTED, JudgedRow, Row, TrainingSet
from retrodict_aws.training_set_files import FIT, HELD_OUT, MANIFEST, to_files

from tests.artifacts import NAMES, PIPELINE, RUN

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "functions/train_candidate/train.py"
LAYERS = [ROOT / f"layers/{name}/python" for name in ("core", "adapters", "pipelines")]
HOUR_US = 3_600_000_000
FIT_ROWS, HELD_OUT_ROWS, NULLS = 400, 200, 30


def rows(count: int, start_us: int, seed: int, nulls: int = 0) -> tuple[Row, ...]:
    """Return ordinary rows, the first `nulls` of them without their first feature."""
    random = Random(seed)
    return tuple(
        Row(
            f"s-{n % 4}",
            start_us + n * HOUR_US // 4,
            f"000000000000-{n:040d}",
            tuple(
                None if n < nulls and place == 0 else random.gauss(0, 1 + place)
                for place in range(len(NAMES))
            ),
        )
        for n in range(count)
    )


SPLIT_US = FIT_ROWS * HOUR_US // 4
HELD_OUT_SET = rows(HELD_OUT_ROWS, SPLIT_US + 1, 2, NULLS)
ROWS = TrainingSet(
    pipeline=PIPELINE.name,
    definition=PIPELINE.trained_on.digest,
    features=NAMES,
    from_us=0,
    split_us=SPLIT_US,
    until_us=SPLIT_US + HELD_OUT_ROWS * HOUR_US,
    last_position="000000000000-9",
    fit=rows(FIT_ROWS, 1, 1, NULLS),
    held_out=HELD_OUT_SET,
    judging=(JudgedRow(HELD_OUT_SET[-1], is_anomaly=True, basis=INJECTED),),
)
PARAMETERS = {
    "pipeline": PIPELINE.name,
    "run_id": RUN,
    "training_set": ROWS.digest,
    "seed": "7",
    "options": '{"trees":20}',
}


def job(
    base: Path,
    *,
    parameters: Mapping[str, str] = PARAMETERS,
    files: Mapping[str, bytes | None] | None = None,
) -> Path:
    """Lay out a job as SageMaker does; a file without content is left out."""
    for folder in ("input/config", "input/data/training", "model", "output"):
        (base / folder).mkdir(parents=True)
    config = base / "input/config/hyperparameters.json"
    config.write_text(json.dumps(parameters))
    for name, raw in {**to_files(ROWS), **(files or {})}.items():
        if raw is not None:
            (base / "input/data/training" / name).write_bytes(raw)
    return base


def start(base: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(PROGRAM)],
        check=False,
        capture_output=True,
        text=True,
        cwd=base,
        env={
            "PATH": os.defpath,
            "PYTHONPATH": os.pathsep.join(map(str, LAYERS)),
            "SAGEMAKER_BASE_DIR": str(base),
            **environment,
        },
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """One job that went well: its folder and what it printed."""
    base = job(tmp_path_factory.mktemp("job"))
    done = start(base, PYTHONHASHSEED="1")
    assert done.returncode == 0, done.stderr
    return base, done.stdout


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Import the program; the contract is then called in this process."""
    spec = importlib.util.spec_from_file_location("train_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_program"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["train_program"]


def artifact_of(base: Path) -> Artifact:
    return Artifact.decode((base / "model/artifact.json").read_bytes())


def test_a_job_leaves_one_artifact_and_nothing_else(trained: tuple[Path, str]) -> None:
    base, _ = trained

    assert [p.name for p in (base / "model").rglob("*")] == ["artifact.json"]
    assert [*(base / "output").rglob("*")] == []


def test_the_artifact_says_where_it_came_from(trained: tuple[Path, str]) -> None:
    found = artifact_of(trained[0])

    found.definition_in(PIPELINE)
    assert found.training_set == ROWS.digest
    assert found.run_id == RUN
    assert found.seed == 7
    assert found.options == {"trees": 20}
    assert found.features == NAMES
    assert len(found.scorer.trees) == 20
    assert found.card["fit_us"] == [0, SPLIT_US]
    assert set(found.card["features"]) == set(NAMES)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", found.code)


def test_rows_with_nulls_are_dropped_and_counted(trained: tuple[Path, str]) -> None:
    metrics = artifact_of(trained[0]).metrics

    assert metrics["fit_rows"] == FIT_ROWS - NULLS
    assert metrics["fit_rows_incomplete"] == NULLS
    assert metrics["held_out_rows"] == HELD_OUT_ROWS - NULLS
    assert metrics["held_out_rows_incomplete"] == NULLS


def test_held_out_rows_alert_within_the_budget(trained: tuple[Path, str]) -> None:
    found = artifact_of(trained[0])
    complete = [r.values for r in ROWS.held_out if r.is_complete]

    scores = [found.scorer.score(v) for v in complete]  # type: ignore[arg-type]
    alerts = sum(score >= found.threshold for score in scores)

    assert found.threshold in scores
    assert 0 < alerts / len(scores) <= found.alert_budget
    assert found.metrics["held_out_alert_rate"] == alerts / len(scores)


def test_the_profile_covers_every_feature_and_the_score(
    trained: tuple[Path, str],
) -> None:
    profile = Profile.from_json(artifact_of(trained[0]).profile)

    assert set(profile.columns) == {*NAMES, "score"}


def test_the_log_names_the_figures_and_the_digest(trained: tuple[Path, str]) -> None:
    base, printed = trained
    found = artifact_of(base)

    figures = dict(re.findall(r"^(\w+)=([^;\n]+);?$", printed, re.MULTILINE))
    assert figures["fit_rows"] == str(FIT_ROWS - NULLS)
    assert float(figures["threshold"]) == found.threshold
    assert figures["artifact_digest"] == found.digest


def test_the_same_rows_and_seed_give_the_same_bytes(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    again = job(tmp_path / "elsewhere")

    done = start(again, PYTHONHASHSEED="2", TZ="Asia/Tokyo", LANG="C")

    assert done.returncode == 0, done.stderr
    expected = (trained[0] / "model/artifact.json").read_bytes()
    assert digest_of((again / "model/artifact.json").read_bytes()) == digest_of(
        expected
    )


def test_another_seed_gives_another_model(
    trained: tuple[Path, str],
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = job(tmp_path / "job", parameters={**PARAMETERS, "seed": "8"})
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))

    assert program.main() == 0
    first, second = artifact_of(trained[0]), artifact_of(base)
    assert first.model != second.model
    assert first.code == second.code


def damaged(name: str) -> Callable[[], Mapping[str, bytes | None]]:
    return lambda: {name: to_files(ROWS)[name][:-100]}


def of(**changes: Any) -> Callable[[], Mapping[str, bytes | None]]:
    return lambda: to_files(replace(ROWS, **changes))


def told(**changes: str) -> dict[str, str]:
    return {**PARAMETERS, **changes}


def digest(**changes: Any) -> str:
    return replace(ROWS, **changes).digest


OTHER = {"fit": ROWS.fit[1:]}
NO_FIT = {"fit": rows(50, 1, 1, nulls=50)}
OTHER_NAMES = {"features": tuple(f"f{n}" for n in range(len(NAMES)))}
NO_REST = {"held_out": rows(50, SPLIT_US + 1, 1, nulls=50)}
EMPTY: dict[str, Any] = {"fit": (), "held_out": (), "judging": ()}


@pytest.mark.parametrize(
    ("parameters", "files", "sentence"),
    [
        ({}, dict, "'pipeline' is missing"),
        (told(seed=""), dict, "'seed' is missing"),
        (told(pipeline="nobody"), dict, "'nobody' is not in this image"),
        (told(seed="one"), dict, "whole number"),
        (told(options="{"), dict, "JSON object"),
        (told(options="[1]"), dict, "must be a JSON object"),
        (told(options='{"n_jobs":2}'), dict, "no option 'n_jobs'"),
        (told(options='{"trees":0}'), dict, "FitOptionError: trees"),
        (told(options='{"max_samples":1}'), dict, "FitOptionError: max_samples"),
        (told(training_set=f"sha256:{'0' * 64}"), dict, "the job was told"),
        (PARAMETERS, of(**OTHER), "the job was told"),
        (PARAMETERS, lambda: {MANIFEST: None}, "manifest"),
        (PARAMETERS, lambda: {FIT: None}, "fit.parquet"),
        (PARAMETERS, lambda: {MANIFEST: b"{}"}, "features"),
        (PARAMETERS, lambda: {MANIFEST: b"\x80"}, "Error"),
        (PARAMETERS, damaged(FIT), "Error|Arrow"),
        (PARAMETERS, damaged(HELD_OUT), "Error|Arrow"),
        (PARAMETERS, lambda: {FIT: to_files(ROWS)[HELD_OUT]}, "the job was told"),
        (told(training_set=digest(definition="0" * 64)), of(definition="0" * 64),
         "build the training set again"),
        (told(training_set=digest(pipeline="another")), of(pipeline="another"),
         "'another'"),
        (told(training_set=digest(**OTHER_NAMES)), of(**OTHER_NAMES), "model reads"),
        (told(training_set=digest(**NO_FIT)), of(**NO_FIT), "no fit row"),
        (told(training_set=digest(**NO_REST)), of(**NO_REST), "no held-out row"),
        (told(training_set=digest(**EMPTY)), of(**EMPTY), "no fit row"),
    ],
)  # fmt: skip
def test_a_job_that_cannot_be_done_says_why_and_leaves_no_model(  # noqa: PLR0913, PLR0917
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    parameters: Mapping[str, str],
    files: Callable[[], Mapping[str, bytes | None]],
    sentence: str,
) -> None:
    base = job(tmp_path / "job", parameters=parameters, files=files())
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(base))

    assert program.main() == 1

    failure = (base / "output/failure").read_text()
    assert re.search(sentence, failure)
    assert "\n" not in failure
    assert len(failure) <= 1_024
    assert [*(base / "model").iterdir()] == []


def test_a_job_without_a_configuration_fails_in_a_sentence_too(tmp_path: Path) -> None:
    done = start(tmp_path)

    assert done.returncode == 1
    assert "hyperparameters.json" in (tmp_path / "output/failure").read_text()


@pytest.mark.parametrize(
    ("scores", "budget", "alerts"),
    [
        ([0.5], 0.99, 0),
        ([0.1, 0.2, 0.3, 0.4], 0.25, 1),
        ([0.4, 0.1, 0.3, 0.2], 0.5, 2),
        ([0.1, 0.2, 0.3, 0.4], 0.24, 0),
        ([0.1, 0.4, 0.4, 0.4], 0.5, 0),
        ([0.1, 0.3, 0.3, 0.4], 0.5, 1),
        ([0.5] * 50, 0.1, 0),
        ([n / 100 for n in range(100)], 0.29, 29),
        ([n / 100 for n in range(100)], 0.07, 7),
        ([n / 1000 for n in range(1000)], 0.01, 10),
    ],
)
def test_a_threshold_keeps_the_budget_and_no_lower_score_would(
    program: ModuleType, scores: list[float], budget: float, alerts: int
) -> None:
    threshold = program.calibrate(scores, budget)

    assert sum(score >= threshold for score in scores) == alerts
    lower = [score for score in scores if score < threshold]
    if lower:
        share = sum(score >= max(lower) for score in scores) / len(scores)
        assert share > budget


def test_the_code_digest_follows_every_source(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "train_candidate"
    shutil.copytree(PROGRAM.parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    before = program.code_digest()
    monkeypatch.setattr(program, "__file__", str(copy / PROGRAM.name))
    assert program.code_digest() == before

    with (copy / PROGRAM.name).open("a") as source:
        source.write("# changed\n")

    assert program.code_digest() != before


def test_the_image_holds_what_its_dockerfile_names() -> None:
    lines = (ROOT / "functions/serve_champion/Dockerfile").read_text().splitlines()
    copied = [line.split()[1:-1] for line in lines if line.startswith("COPY")]
    programs = re.findall(r"exec python /opt/program/(\S+?)\\n", "\n".join(lines))
    staged = [line.split()[-1].removeprefix("/opt/program/") for line in lines
              if line.startswith("COPY")]  # fmt: skip

    assert copied
    for sources in copied:
        assert [s for s in sources if not (ROOT / s).exists()] == []
    assert programs == [
        "functions/train_candidate/train.py",
        "functions/serve_champion/serve.py",
    ]
    for path in programs:
        assert (ROOT / path).exists()
        assert any(path.startswith(folder) for folder in staged)


def test_what_the_image_installs_is_locked_with_hashes() -> None:
    folder = ROOT / "functions/serve_champion"
    asked = {
        re.split(r"[<>=\[]", line)[0]
        for line in (folder / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    lock = (folder / "requirements.lock").read_text()
    locked = re.findall(
        r"^([a-z0-9._-]+)==\S+ \\\n +--hash=sha256:", lock, re.MULTILINE
    )
    unlocked = re.findall(r"^([a-z0-9._-]+)(?!==)[<>=]", lock, re.MULTILINE)

    assert asked <= set(locked)
    assert unlocked == []
    assert "--require-hashes" in (folder / "Dockerfile").read_text()
