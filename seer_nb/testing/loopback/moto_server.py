"""The moto server: EC2 and S3 on a free port, with a network, an image and a bucket from the start."""

from __future__ import annotations

import base64
import binascii
import io
import re
import threading
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.moto_api._internal import mock_random
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractContextManager
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from seer_nb.testing.loopback.faults import Faults, Market
    from seer_nb.testing.loopback.machines import MachinePool


USER_DATA_BYTES = 16384
_DEFAULT_TYPE = "m1.small"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An EC2 error with its HTTP status, by which botocore decides whether to retry."""

    status: str
    code: str
    message: str


class RequestFilter:
    """Rejects or delays requests, as the injected faults require.

    Args:
        faults: Faults to inject.
        market: Known instance types and their prices.
    """

    def __init__(self, faults: Faults, market: Market) -> None:
        self._faults = faults
        self._market = market
        self._no_capacity: dict[str, Refusal] = {}
        """Capacity errors by call id: retries of a failed call get the same error."""

    def refusal(self, request: Mapping[str, str], call: str) -> Refusal | None:
        """Return the error for a request, or None to accept it.

        Args:
            request: Parameters of the request.
            call: Id that all attempts of one client call share.
        """
        if self._faults.throttled():
            return Refusal("503 Service Unavailable", "RequestLimitExceeded", "Request limit exceeded.")
        if request.get("Action") != "RunInstances":
            return None
        return _malformed(request, self._market) or self._dry_run(request) or self._shortage(request, call)

    def delay(self, service: str) -> None:
        """Wait if the service is slow."""
        if service == "s3":
            time.sleep(self._faults.slow_store_s)

    def _dry_run(self, request: Mapping[str, str]) -> Refusal | None:
        if request.get("DryRun") != "true":
            return None
        message = "Request would have succeeded, but DryRun flag is set."
        return Refusal("412 Precondition Failed", "DryRunOperation", message)

    def _shortage(self, request: Mapping[str, str], call: str) -> Refusal | None:
        name = request.get("InstanceType", _DEFAULT_TYPE)
        spot = request.get("InstanceMarketOptions.MarketType") == "spot"
        limit = request.get("InstanceMarketOptions.SpotOptions.MaxPrice")
        if spot and limit and float(limit) < (price := self._market.spot_price(name)):
            message = (
                f"Your Spot request price of {limit} is lower than the minimum required Spot request fulfillment "
                f"price of {price:g}."
            )
            return Refusal("400 Bad Request", "SpotMaxPriceTooLow", message)
        if call not in self._no_capacity and self._faults.no_capacity(name, spot=spot):
            message = (
                f"We currently do not have sufficient {name} capacity in the Availability Zone you requested. "
                "Our system will be working on provisioning additional capacity."
            )
            refusal = Refusal("500 Internal Server Error", "InsufficientInstanceCapacity", message)
            self._no_capacity[call] = refusal
        return self._no_capacity.get(call)


def _malformed(request: Mapping[str, str], market: Market) -> Refusal | None:
    name = request.get("InstanceType", _DEFAULT_TYPE)
    if not market.known(name):
        return Refusal("400 Bad Request", "InvalidParameterValue", f"Invalid value '{name}' for InstanceType.")
    try:
        size = len(base64.b64decode(request.get("UserData", "")))
    except binascii.Error:
        return None  # moto reports the error
    if size > USER_DATA_BYTES:
        message = f"User data is limited to {USER_DATA_BYTES} bytes"
        return Refusal("400 Bad Request", "InvalidParameterValue", message)
    return None


_SCOPE = re.compile(r"Credential=([^/,\s]+)/[^/]+/[^/]+/([^/]+)/aws4_request")
_BAD_CREDENTIALS = Refusal(
    "401 Unauthorized", "AuthFailure", "AWS was not able to validate the provided access credentials"
)


class RequestMiddleware:
    """WSGI middleware that authenticates requests and injects faults.

    moto accepts every caller, and RunInstances runs the caller's script as this user. So a request must be signed with
    this cloud's random access key. That excludes other users of the computer, and web pages, which can post to local
    ports but cannot set the header.

    Args:
        app: The moto application.
        key: The access key.
        request_filter: Rejects or delays requests.
        lock: Held while moto handles an EC2 request, because its tables are not thread-safe.
    """

    def __init__(
        self, app: WSGIApplication, key: str, request_filter: RequestFilter, lock: AbstractContextManager[object]
    ) -> None:
        self._app = app
        self._key = key
        self._request_filter = request_filter
        self._lock = lock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        key, service = _signer(environ)
        if key != self._key:
            return _refuse(_BAD_CREDENTIALS, start_response)
        self._request_filter.delay(service)
        if service != "ec2":
            return self._app(environ, start_response)
        call = environ.get("HTTP_AMZ_SDK_INVOCATION_ID") or uuid.uuid4().hex
        with self._lock:
            refusal = self._request_filter.refusal(_parameters(environ), call)
            return _refuse(refusal, start_response) if refusal else self._app(environ, start_response)


def _signer(environ: WSGIEnvironment) -> tuple[str, str]:
    """Return the access key and service that signed a request, from its header or its presigned URL."""
    query = dict(parse_qsl(environ.get("QUERY_STRING", "")))
    signed = environ.get("HTTP_AUTHORIZATION") or f"Credential={query.get('X-Amz-Credential', '')}"
    found = _SCOPE.search(signed)
    return (found[1], found[2]) if found else (query.get("AWSAccessKeyId", ""), "s3")


def _parameters(environ: WSGIEnvironment) -> dict[str, str]:
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return dict(parse_qsl(body.decode(), keep_blank_values=True))


def _refuse(refusal: Refusal, start_response: StartResponse) -> Iterable[bytes]:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{refusal.code}</Code><Message>{escape(refusal.message)}</Message>"
        f"</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
    ).encode()
    headers = [("Content-Type", "text/xml;charset=UTF-8"), ("Content-Length", str(len(body)))]
    start_response(refusal.status, headers)
    return [body]


class MotoServer:
    """The server. moto's tables are global to the process, so they are cleared on start and on close.

    Args:
        pool: The machines.
        request_filter: Rejects or delays requests.
        key: Access key that must sign requests.
        region: Region of all resources.
        seed: Seed for the ids that moto draws.
    """

    def __init__(self, pool: MachinePool, request_filter: RequestFilter, key: str, region: str, seed: int) -> None:
        moto_api_backend.reset()
        mock_random.seed(seed)
        backend: Any = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        self.vpc: str = backend.create_vpc("127.0.0.0/16").id
        self.subnet: str = backend.create_subnet(self.vpc, pool.addresses.cidr).id
        self.security_group: str = backend.create_security_group("loopback", "anything", vpc_id=self.vpc).id
        self.ami: str = next(image.id for image in backend.describe_images() if not image.platform)
        self.bucket = "loopback"
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(self.bucket, region)
        app = RequestMiddleware(DomainDispatcherApplication(create_backend_app), key, request_filter, pool.lock)
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_QuietHandler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop the server and clear moto's tables."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        moto_api_backend.reset()


class _QuietHandler(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do not log requests."""
