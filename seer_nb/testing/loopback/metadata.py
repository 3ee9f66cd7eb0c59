"""The instance metadata service (version 2) of all machines; the URL's path starts with the machine's id."""

from __future__ import annotations

import json
import secrets
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from seer_nb.testing.loopback.machines import LiveMachine


_TOKEN_S = range(1, 21601)
_TOKEN = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name


class MetadataService:
    """A metadata server on a free port.

    Args:
        find: Returns the machine with an id; raises ValueError if there is none.
        region: The cloud's region.
    """

    def __init__(self, find: Callable[[str], LiveMachine], region: str) -> None:
        self.find = find
        self.region = region
        self.token = secrets.token_urlsafe()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def url(self, instance_id: str) -> str:
        """Return the service's URL for one machine, which replaces http://169.254.169.254."""
        return f"http://127.0.0.1:{self._server.server_port}/{instance_id}"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def value(self, machine: LiveMachine, path: str) -> str | None:
        """Return the text at a path; None if there is none."""
        known = _facts(machine, self.region)
        leaf = path.rstrip("/")  # botocore appends a slash to the path of the zone
        if leaf in known:
            return known[leaf]
        folder = f"{leaf}/"
        names = {name.removeprefix(folder).partition("/") for name in known if name.startswith(folder)}
        return "\n".join(sorted({first + slash for first, slash, _ in names})) or None


def _facts(machine: LiveMachine, region: str) -> dict[str, str]:
    instance = machine.instance
    zone = str(instance.availability_zone)
    facts = {
        "ami-id": instance.image_id,
        "hostname": instance.private_dns_name,
        "instance-action": "none",
        "instance-id": machine.instance_id,
        "instance-life-cycle": "spot" if machine.spot else "on-demand",
        "instance-type": instance.instance_type,
        "local-ipv4": machine.address,
        "placement/availability-zone": zone,
        "placement/region": region,
    }
    if instance.public_ip:
        facts["public-ipv4"] = instance.public_ip
    if machine.notice is not None:
        time = f"{machine.notice:%Y-%m-%dT%H:%M:%SZ}"
        facts |= {
            "spot/instance-action": json.dumps({"action": "terminate", "time": time}),
            "spot/termination-time": time,
        }
    identity = {
        "accountId": instance.owner_id,
        "availabilityZone": zone,
        "instanceId": machine.instance_id,
        "instanceType": instance.instance_type,
        "privateIp": machine.address,
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
            # Machines of today require version 2, so a request without a token must fail here too.
            self._answer(HTTPStatus.UNAUTHORIZED)
            return
        try:
            value = self.service.value(self.service.find(instance_id), path)
        except ValueError:
            value = None
        self._answer(HTTPStatus.NOT_FOUND if value is None else HTTPStatus.OK, value or "")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
        """Do not log requests."""

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
