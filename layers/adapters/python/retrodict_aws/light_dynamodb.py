"""DynamoDB's calls on items at a small part of boto3's cost.

boto3 spends most of a call on what is the same for every call. Here the endpoint, the
time-outs, the rules of retries and the errors are those of a boto3 client, which also
answers what is called seldom; a request is written, signed with SigV4 and sent by the
code below, over connections that are kept.
"""

import hashlib
import hmac
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from io import BytesIO
from typing import Any, Final, Literal, NoReturn, TypedDict
from urllib.parse import urlsplit

import msgspec
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import (
    BotoCoreError,
    ChecksumError,
    ClientError,
    HTTPClientError,
    NoCredentialsError,
)
from botocore.exceptions import ConnectionError as NoConnectionError
from botocore.parsers import create_parser

from retrodict_aws.kept_connections import Answer, KeptConnections

KIND: Final = "application/x-amz-json-1.0"
SERVICE: Final = "dynamodb"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_CHECKSUM: Final = "x-amz-crc32"
_OK: Final = 200


class _Attribute(TypedDict, total=False):
    """A typed value, as DynamoDB's JSON has it; `B` is base64 there."""

    S: str
    N: str
    B: bytes
    BOOL: bool
    NULL: bool
    SS: list[str]
    NS: list[str]
    BS: list[bytes]
    L: list["_Attribute"]
    M: dict[str, "_Attribute"]


class _Batch(TypedDict, total=False):
    """An answer of BatchGetItem; what is unprocessed goes back as it came."""

    Responses: dict[str, list[dict[str, _Attribute]]]
    UnprocessedKeys: dict[str, Any]


_encode: Final = msgspec.json.Encoder().encode
_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_decode_written: Final = msgspec.json.Decoder(dict[str, Any]).decode


class Signer:
    """SigV4 for posts to one host: the headers and the signature botocore would make.

    The key that signs is derived once a day, region and secret, not once a request.

    Parameters
    ----------
    credentials
        botocore's; asked at every request, so that they are renewed in time.
    """

    def __init__(self, credentials: Any, region: str, host: str) -> None:
        self._credentials = credentials
        self._region = region
        self._host = host
        self._derived: tuple[str, str, bytes] = ("", "", b"")

    def headers(self, target: str, body: bytes, now_s: float) -> dict[str, str]:
        """Return the headers of a request, signed.

        Raises
        ------
        botocore.exceptions.NoCredentialsError
            There are none.
        """
        if self._credentials is None:
            raise NoCredentialsError
        found = self._credentials.get_frozen_credentials()
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        headers = {"content-type": KIND, "host": self._host, "x-amz-date": stamp}
        if found.token:
            headers["x-amz-security-token"] = found.token
        headers["x-amz-target"] = target
        names = ";".join(headers)
        lines = "".join([f"{name}:{value}\n" for name, value in headers.items()])
        digest = hashlib.sha256(body).hexdigest()
        canonical = f"POST\n/\n\n{lines}\n{names}\n{digest}"
        scope = f"{stamp[:8]}/{self._region}/{SERVICE}/aws4_request"
        wanted = hashlib.sha256(canonical.encode()).hexdigest()
        signature = hmac.digest(
            self._key(found.secret_key, stamp[:8]),
            f"{_ALGORITHM}\n{stamp}\n{scope}\n{wanted}".encode(),
            "sha256",
        ).hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={found.access_key}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def _key(self, secret: str, day: str) -> bytes:
        known_secret, known_day, key = self._derived
        if known_secret != secret or known_day != day:
            key = f"AWS4{secret}".encode()
            for part in (day, self._region, SERVICE, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._derived = secret, day, key
        return key


class LightDynamoDB:
    """A client of BatchGetItem, PutItem and DeleteItem, and of paginators.

    Requests and answers are those of boto3's client; so are the errors that it raises.

    Parameters
    ----------
    client
        A boto3 client of DynamoDB; its endpoint, its settings and its events are used.
    credentials
        botocore's, as the client has them.
    ca_bundle
        Path of the certificates to trust, or True for those that botocore trusts.
    """

    def __init__(
        self,
        client: Any,
        credentials: Any,
        *,
        ca_bundle: str | Literal[True] = True,
        sleep: Callable[[float], None] = time.sleep,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        meta = client.meta
        self._client = client
        self._events = meta.events
        self._model = meta.service_model
        self._parser = create_parser(self._model.resolved_protocol)
        self._targets = f"{self._model.metadata['targetPrefix']}."
        self._url = f"{meta.endpoint_url.rstrip('/')}/"
        self._first = f"POST / HTTP/1.1\r\nuser-agent: {meta.config.user_agent}\r\n"
        self._sleep = sleep
        self._now_s = now_s
        self._signer = Signer(credentials, meta.region_name, _host(self._url))
        self._connections = KeptConnections(
            meta.endpoint_url,
            connect_timeout_s=meta.config.connect_timeout,
            read_timeout_s=meta.config.read_timeout,
            ca_bundle=ca_bundle,
            most=meta.config.max_pool_connections,
        )

    def batch_get_item(self, **request: Any) -> Any:
        """Return what boto3's client returns."""
        return _read(_decode_batch, self._call("BatchGetItem", _encode(request)))

    def put_item(self, **request: Any) -> Any:
        """Return what boto3's client returns."""
        return _read(_decode_written, self._call("PutItem", _encode(request)))

    def put_items(
        self, requests: Sequence[Mapping[str, Any]]
    ) -> list[Exception | None]:
        """Put all at once, and return what `put_item` would have raised for each.

        Each goes over a connection of its own; what must be asked again is asked again
        when all have their first answer.
        """
        bodies = [_encode(request) for request in requests]
        begun = [self._begin("PutItem", body) for body in bodies]
        found: list[Exception | None] = []
        for body, first in zip(bodies, begun, strict=True):
            try:
                _read(_decode_written, self._call("PutItem", body, first))
            except (BotoCoreError, ClientError) as error:
                found.append(error)
            else:
                found.append(None)
        return found

    def delete_item(self, **request: Any) -> Any:
        """Return what boto3's client returns."""
        return _read(_decode_written, self._call("DeleteItem", _encode(request)))

    def get_paginator(self, name: str) -> Any:
        """Return a paginator of boto3's client."""
        return self._client.get_paginator(name)

    def _call(
        self, operation: str, body: bytes, first: Callable[[], Answer] | None = None
    ) -> bytes:
        """Return a good answer; ask again as the client's rules of retries say.

        Parameters
        ----------
        first
            Waits for the answer of a request that is under way already.
        """
        context: dict[str, Any] = {}
        attempts = 0
        while True:
            attempts += 1
            found: tuple[AWSResponse, dict[str, Any]] | None = None
            lost: Exception | None = None
            try:
                answer = (first or self._begin(operation, body))()
            except (NoConnectionError, HTTPClientError) as error:
                lost = error
            else:
                if answer.status_code == _OK and _is_whole(answer):
                    self._events.emit(
                        f"after-call.{SERVICE}.{operation}",
                        http_response=answer,
                        parsed={},
                        model=None,
                        context=context,
                    )
                    return answer.content
                found = self._understood(operation, answer)
            first = None
            _, delay_s = self._events.emit_until_response(
                f"needs-retry.{SERVICE}.{operation}",
                response=found,
                endpoint=None,
                operation=self._model.operation_model(operation),
                attempts=attempts,
                caught_exception=lost,
                request_dict={"context": context},
            )
            if delay_s is not None:
                self._sleep(delay_s)
            elif lost is not None:
                raise lost
            elif found is not None:
                self._refuse(operation, *found, attempts)

    def _begin(self, operation: str, body: bytes) -> Callable[[], Answer]:
        """Send a request once, and return what waits for its answer.

        Who listens may answer in the place of DynamoDB.
        """
        target = self._targets + operation
        request = AWSPreparedRequest(
            "POST",
            self._url,
            self._signer.headers(target, body, self._now_s()),
            body,
            stream_output=False,
        )
        _, instead = self._events.emit_until_response(
            f"before-send.{SERVICE}.{operation}", request=request
        )
        if instead is not None:
            answer = Answer(
                instead.status_code,
                {name.lower(): value for name, value in instead.headers.items()},
                instead.content,
            )
            return lambda: answer
        lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
        head = f"{self._first}{''.join(lines)}content-length: {len(body)}\r\n\r\n"
        try:
            return self._connections.begin(head.encode() + body)
        except (NoConnectionError, HTTPClientError) as error:
            return partial(_fail, error)

    def _understood(
        self, operation: str, answer: Answer
    ) -> tuple[AWSResponse, dict[str, Any]]:
        """Return a refusal as botocore reads it."""
        response = AWSResponse(
            self._url, answer.status_code, answer.headers, _Raw(answer.content)
        )
        if answer.status_code == _OK:
            return response, {}
        read = {
            "headers": response.headers,
            "status_code": answer.status_code,
            "body": answer.content,
            "context": {"operation_name": operation},
        }
        shape = self._model.operation_model(operation).output_shape
        return response, self._parser.parse(read, shape)

    def _refuse(
        self,
        operation: str,
        response: AWSResponse,
        parsed: dict[str, Any],
        attempts: int,
    ) -> NoReturn:
        if response.status_code == _OK:
            raise ChecksumError(
                checksum_type="crc32",
                expected_checksum=response.headers[_CHECKSUM],
                actual_checksum=zlib.crc32(response.content),
            )
        parsed.setdefault("ResponseMetadata", {})["RetryAttempts"] = attempts - 1
        code = parsed.get("Error", {}).get("Code")
        raise self._client.exceptions.from_code(code)(parsed, operation)


class _Raw(BytesIO):
    """A body as botocore streams it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def _fail(error: Exception) -> NoReturn:
    raise error


def _is_whole(answer: Answer) -> bool:
    """Return whether an answer is what DynamoDB sent, where it says what that was."""
    said = answer.headers.get(_CHECKSUM)
    return said is None or said == str(zlib.crc32(answer.content))


def _read(decode: Callable[[bytes], Any], content: bytes) -> Any:
    try:
        return decode(content)
    except msgspec.MsgspecError as error:
        raise HTTPClientError(error=error) from error


def _host(url: str) -> str:
    """Return host and port as the header has them, without the port that is usual.

    Examples
    --------
    >>> _host("https://dynamodb.eu-west-1.amazonaws.com:443/"), _host("http://[::1]:80")
    ('dynamodb.eu-west-1.amazonaws.com', '[::1]')
    >>> _host("http://127.0.0.1:5000/")
    '127.0.0.1:5000'
    """
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
    usual = 443 if parts.scheme == "https" else 80
    return host if parts.port in {None, usual} else f"{host}:{parts.port}"
