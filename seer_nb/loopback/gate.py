"""What stands in front of moto: who may ask, and what is refused."""

from __future__ import annotations

import io
import re
import uuid
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from seer_nb.loopback.refusals import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from seer_nb.loopback.refusals import Judge

_SCOPE = re.compile(r"Credential=([^/,\s]+)/[^/]+/[^/]+/([^/]+)/aws4_request")
_STRANGER = Refusal("401 Unauthorized", "AuthFailure", "AWS was not able to validate the provided access credentials")


class Gate:
    """A WSGI application around moto's.

    One place for what concerns requests rather than resources. moto answers anybody, and here RunInstances runs the
    caller's script as this user: so a request must name this cloud's own access key, which is drawn at random. That
    keeps out other users of the computer, and web pages, which can post to its ports but not set this header.

    Args:
        app: moto's.
        key: The access key.
        judge: Decides on requests to EC2.
        lock: Held while moto handles a request to EC2, whose tables moto does not guard against its own threads.
    """

    def __init__(self, app: WSGIApplication, key: str, judge: Judge, lock: AbstractContextManager[object]) -> None:
        self._app = app
        self._key = key
        self._judge = judge
        self._lock = lock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        key, service = _signer(environ)
        if key != self._key:
            return _refuse(_STRANGER, start_response)
        self._judge.hold(service)
        if service != "ec2":
            return self._app(environ, start_response)
        call = environ.get("HTTP_AMZ_SDK_INVOCATION_ID") or uuid.uuid4().hex
        with self._lock:
            refusal = self._judge.refusal(_parameters(environ), call)
            return _refuse(refusal, start_response) if refusal else self._app(environ, start_response)


def _signer(environ: WSGIEnvironment) -> tuple[str, str]:
    """The access key and the service that a request is signed for, in its header or, for a presigned one, its URL."""
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
