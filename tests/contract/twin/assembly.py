"""Hand-made cloud assemblies and handlers, small enough to see whole in a test."""

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ASSETS = "assets-${AWS::AccountId}-${AWS::Region}"
REPOSITORY = "images-${AWS::AccountId}-${AWS::Region}"
ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": "sts:AssumeRole",
                    "Principal": {"Service": "lambda.amazonaws.com"},
                }
            ],
        }
    },
}


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    """Return a resource of a template."""
    return {"Type": kind, "Properties": properties}


def ref(name: str) -> dict[str, str]:
    """Return a `Ref`."""
    return {"Ref": name}


def att(name: str, attribute: str = "Arn") -> dict[str, list[str]]:
    """Return a `Fn::GetAtt`."""
    return {"Fn::GetAtt": [name, attribute]}


def function(asset: str, **properties: Any) -> dict[str, Any]:
    """Return a Lambda function whose code is the asset of that name."""
    return resource(
        "AWS::Lambda::Function",
        **{
            "Code": {"S3Bucket": {"Fn::Sub": ASSETS}, "S3Key": f"{asset}.zip"},
            "Handler": "handler.lambda_handler",
            "Role": att("Role"),
            "Runtime": "python3.12",
            "MemorySize": 256,
            "Timeout": 10,
            **properties,
        },
    )


def mapping(stream: str, to: str, **properties: Any) -> dict[str, Any]:
    """Return an event source mapping from a stream to a function."""
    return resource(
        "AWS::Lambda::EventSourceMapping",
        **{
            "EventSourceArn": att(stream),
            "FunctionName": ref(to),
            "StartingPosition": "TRIM_HORIZON",
            **properties,
        },
    )


def write_assembly(
    folder: Path,
    stacks: Mapping[str, Mapping[str, Any]],
    code: Mapping[str, Mapping[str, str]] | None = None,
    images: Mapping[str, Mapping[str, str]] | None = None,
) -> Path:
    """Write an assembly with the stage `App-dev`, and return its folder.

    `stacks` holds templates by stack name, `code` the files of each asset by path,
    `images` those of each docker asset.
    """
    files = {}
    docker = {}
    for image, sources in (images or {}).items():
        for name, text in sources.items():
            path = folder / f"asset.{image}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        docker[image] = {
            "source": {"directory": f"../asset.{image}"},
            "destinations": {"here": {"repositoryName": REPOSITORY, "imageTag": image}},
        }
    for asset, sources in (code or {}).items():
        for name, text in sources.items():
            path = folder / f"asset.{asset}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        files[asset] = {
            "source": {"path": f"../asset.{asset}", "packaging": "zip"},
            "destinations": {
                "here": {"bucketName": ASSETS, "objectKey": f"{asset}.zip"}
            },
        }
    stage = folder / "assembly-App-dev"
    stage.mkdir(parents=True)
    artifacts: dict[str, Any] = {}
    for name, template in stacks.items():
        (stage / f"{name}.template.json").write_text(json.dumps(template))
        (stage / f"{name}.assets.json").write_text(
            json.dumps({"files": files, "dockerImages": docker})
        )
        artifacts[f"{name}.assets"] = {
            "type": "cdk:asset-manifest",
            "properties": {"file": f"{name}.assets.json"},
        }
        artifacts[name] = {
            "type": "aws:cloudformation:stack",
            "properties": {"templateFile": f"{name}.template.json"},
            "dependencies": [f"{name}.assets"],
        }
    (stage / "manifest.json").write_text(json.dumps({"artifacts": artifacts}))
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "artifacts": {
                    "assembly-App-dev": {
                        "type": "cdk:cloud-assembly",
                        "properties": {
                            "directoryName": "assembly-App-dev",
                            "displayName": "App-dev",
                        },
                    }
                }
            }
        )
    )
    return folder
