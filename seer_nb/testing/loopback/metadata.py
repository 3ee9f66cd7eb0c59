"""The instance metadata service (version 2) of all machines, each under its id in the URL's path."""

from __future__ import annotations

import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.testing.loopback.machines import Host


_TOKEN_S = range(1, 21601)
_TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name


class MetadataService:
    """A server on a free port.

    Args:
        find: Machine by its id; ValueError if there is none.
        region: The cloud's.
    """

    def __init__(self, find: Callable[[str], Host], region: str) -> None:
        self.find = find
        self.region = region
        self.token = secrets.token_urlsafe()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, instance_id: str) -> str:
        """The service's address for one machine, to be used in place of http://169.254.169.254."""
        return f"http://127.0.0.1:{self._server.server_port}/{instance_id}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def value(self, host: Host, path: str) -> str | None:
        """What the service says under a path; None if there is nothing."""
        known = _facts(host, self.region)
        leaf = path.rstrip("/")  # botocore asks for the zone with a slash behind it
        if leaf in known:
            return known[leaf]
        folder = f"{leaf}/"
        names = {name.removeprefix(folder).partition("/") for name in known if name.startswith(folder)}
        return "\n".join(sorted({first + slash for first, slash, _ in names})) or None


def _facts(host: Host, region: str) -> dict[str, str]:
    instance = host.instance
    zone = str(instance.availability_zone)
    facts = {
        "ami-id": instance.image_id,
        "hostname": instance.private_dns_name,
        "instance-action": "none",
        "instance-id": host.instance_id,
        "instance-life-cycle": "spot" if host.spot else "on-demand",
        "instance-type": instance.instance_type,
        "local-ipv4": host.address,
        "placement/availability-zone": zone,
        "placement/region": region,
    }
    if instance.public_ip:
        facts["public-ipv4"] = instance.public_ip
    if host.notice is not None:
        time = f"{host.notice:%Y-%m-%dT%H:%M:%SZ}"
        facts |= {
            "spot/instance-action": json.dumps({"action": "terminate", "time": time}),
            "spot/termination-time": time,
        }
    identity = {
        "accountId": instance.owner_id,
        "availabilityZone": zone,
        "instanceId": host.instance_id,
        "instanceType": instance.instance_type,
        "privateIp": host.address,
        "region": region,
    }
    return {
        **{f"/latest/meta-data/{name}": value for name, value in facts.items()},
        "/latest/dynamic/instance-identity/document": json.dumps(identity),
    }


class _Handler(BaseHTTPRequestHandler):
    service: MetadataService

    def do_PUT(self) -> None:
        _, path = self._target()
        seconds = self.headers.get(f"{_TOKEN}-ttl-seconds", "")
        if path != "/latest/api/token":
            self._answer(HTTPStatus.NOT_FOUND)
        elif seconds.isdigit() and int(seconds) in _TOKEN_S:
            self._answer(HTTPStatus.OK, self.service.token, {f"{_TOKEN}-ttl-seconds": seconds})
        else:
            self._answer(HTTPStatus.BAD_REQUEST)

    def do_GET(self) -> None:
        instance_id, path = self._target()
        if self.headers.get(_TOKEN) != self.service.token:
            # As machines are set up nowadays: what asks without a token would not work there.
            self._answer(HTTPStatus.UNAUTHORIZED)
            return
        try:
            value = self.service.value(self.service.find(instance_id), path)
        except ValueError:
            value = None
        self._answer(HTTPStatus.NOT_FOUND if value is None else HTTPStatus.OK, value or "")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        """Say nothing."""

    def _target(self) -> tuple[str, str]:
        instance_id, _, path = self.path.lstrip("/").partition("/")
        return instance_id, f"/{path}"

    def _answer(self, status: HTTPStatus, text: str = "", headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": "text/plain", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
