"""A docker asset with a train and a serve program, small enough to see whole."""

import io
import json
import tarfile
import time
from collections.abc import Mapping
from typing import Any

from infra.local.twin import Twin
from tests.contract.twin.assembly import REPOSITORY, ref, resource

TRAIN = """
import json, os, signal, sys, time
from pathlib import Path

base = Path(os.environ["SAGEMAKER_BASE_DIR"])
config = {
    path.stem: json.loads(path.read_text())
    for path in (base / "input" / "config").glob("*.json")
}
parameters = config["hyperparameters"]
if "sleep" in parameters:
    def leave(*_):
        print("told to leave")
        sys.exit(1)
    signal.signal(signal.SIGTERM, leave)
    (base / "model" / "checkpoint").write_text("half")
    print("ready")
    time.sleep(float(parameters["sleep"]))
if "fail" in parameters:
    (base / "output" / "failure").write_text(parameters["fail"])
    sys.exit(3)
print("loss=0.5;")
print("loss=0.25;")
data = base / "input" / "data"
(base / "output" / "data" / "seen.json").write_text(json.dumps({
    "config": config,
    "files": {
        str(path.relative_to(data)): path.read_text()
        for path in sorted(data.rglob("*")) if path.is_file()
    },
    "environment": dict(os.environ),
    "time": time.time(),
}))
(base / "model" / "artifact.json").write_text(json.dumps(parameters))
"""

SERVE = """
import datetime, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

base = Path(os.environ["SAGEMAKER_BASE_DIR"])
model = json.loads((base / "model" / "artifact.json").read_text())
if model.get("broken"):
    sys.exit("cannot start")

running = []

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(404 if model.get("unhealthy") else 200)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        verb, _, value = body.decode().partition(":")
        if model.get("status"):
            self.answer(model["status"], b"cannot", Content_Type="text/plain")
        elif verb == "print":
            print(value)
            self.answer(200, b"printed", Content_Type="text/plain")
        elif verb == "status":
            self.answer(int(value), b"as you wished", Content_Type="text/plain")
        elif verb == "die":
            os._exit(1)
        elif verb == "sleep":
            running.append(value)
            most = str(len(running))
            time.sleep(float(value))
            running.pop()
            self.answer(200, most.encode(), Content_Type="text/plain")
        else:
            print("asked", body.decode())
            self.answer(200, json.dumps({
                "model": model,
                "body": body.decode(),
                "headers": dict(self.headers),
                "environment": dict(os.environ),
                "time": time.time(),
                "now": datetime.datetime.now(datetime.UTC).isoformat(),
            }).encode(), Content_Type="application/json",
                X_Amzn_SageMaker_Custom_Attributes="from-the-model")

ThreadingHTTPServer(
    ("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"])), Handler
).serve_forever()
"""

PROGRAMS = {
    "functions/train_candidate/train.py": TRAIN,
    "functions/serve_champion/serve.py": SERVE,
    "layers/core/python/ours/__init__.py": "",
}
RESOURCES = {"Bucket": resource("AWS::S3::Bucket")}
OUTPUTS = {
    "Bucket": {"Value": ref("Bucket")},
    "Image": {
        "Value": {
            "Fn::Sub": "${AWS::AccountId}.dkr.ecr.${AWS::Region}.${AWS::URLSuffix}/"
            f"{REPOSITORY}:programs"
        }
    },
}
ROLE_ARN = "arn:aws:iam::123456789012:role/programs"


def archive(files: Mapping[str, str]) -> bytes:
    """Return a model.tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def put(twin: Twin, key: str, body: bytes) -> str:
    """Put an object and return its URI."""
    bucket = twin.outputs()["Bucket"]
    twin.client("s3").put_object(Bucket=bucket, Key=key, Body=body)
    return f"s3://{bucket}/{key}"


def get(twin: Twin, uri: str) -> bytes:
    """Return an object."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    answer = twin.client("s3").get_object(Bucket=bucket, Key=key)
    return bytes(answer["Body"].read())


def unpacked(content: bytes) -> dict[str, str]:
    """Return the files of an archive."""
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        return {
            entry.name: file.read().decode()
            for entry in tar
            if (file := tar.extractfile(entry)) is not None
        }


def config(twin: Twin, name: str, model: Mapping[str, Any], **members: Any) -> str:
    """Make a model and an endpoint configuration of that name, and return it."""
    sagemaker = twin.client("sagemaker")
    content = archive({"artifact.json": json.dumps(model)})
    sagemaker.create_model(
        ModelName=name,
        ExecutionRoleArn=ROLE_ARN,
        PrimaryContainer={
            "Image": twin.outputs()["Image"],
            "ModelDataUrl": put(twin, f"models/{name}.tar.gz", content),
            "Environment": {"PIPELINE": name},
        },
    )
    sagemaker.create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[
            {
                "VariantName": members.pop("variant", "champion"),
                "ModelName": name,
                "InitialInstanceCount": 1,
                "InstanceType": "ml.m5.large",
                **members.pop("of_variant", {}),
            }
        ],
        **members,
    )
    return name


def serve(twin: Twin, model: Mapping[str, Any], **members: Any) -> None:
    """Make the endpoint `scores` with that model, and wait until it is there."""
    twin.client("sagemaker").create_endpoint(
        EndpointName="scores",
        EndpointConfigName=config(twin, "first", model, **members),
    )
    settled(twin)


def settled(twin: Twin, timeout: float = 20.0) -> dict[str, Any]:
    """Wait until the endpoint changes no more by itself; time stands."""
    deadline = time.perf_counter() + timeout
    sagemaker = twin.client("sagemaker")
    while time.perf_counter() < deadline:
        shown = dict(sagemaker.describe_endpoint(EndpointName="scores"))
        if shown["EndpointStatus"] in {"InService", "Failed"}:
            return shown
        pending = shown.get("PendingDeploymentSummary", {})
        variants = pending.get("ProductionVariants", [])
        if variants and variants[0]["VariantStatus"][0]["Status"] == "Baking":
            return shown
        time.sleep(0.02)
    raise AssertionError(shown)


def ask(twin: Twin, body: bytes = b"hello", **members: Any) -> Any:
    """Invoke the endpoint and return what the program saw."""
    answer = twin.client("sagemaker-runtime").invoke_endpoint(
        EndpointName="scores", Body=body, **members
    )
    return json.load(answer["Body"])
