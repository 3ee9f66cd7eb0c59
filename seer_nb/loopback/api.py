"""moto's server: EC2 and S3 on a free port of this process, with something in it to begin with."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.ec2.models import ec2_backends
from moto.moto_api._internal import mock_random
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import make_server

from seer_nb.loopback.gate import Gate

if TYPE_CHECKING:
    from seer_nb.loopback.park import Park
    from seer_nb.loopback.refusals import Judge


class Api:
    """The server. moto's tables belong to the process: they are emptied when it starts, and when it closes.

    Args:
        park: The machines.
        judge: Decides which requests are refused.
        key: The access key that requests must be signed with.
        region: Where everything is.
        seed: Of the ids that moto draws.
    """

    def __init__(self, park: Park, judge: Judge, key: str, region: str, seed: int) -> None:
        moto_api_backend.reset()
        mock_random.seed(seed)
        backend: Any = ec2_backends[DEFAULT_ACCOUNT_ID][region]
        self.vpc: str = backend.create_vpc("127.0.0.0/16").id
        self.subnet: str = backend.create_subnet(self.vpc, park.addresses.cidr).id
        self.security_group: str = backend.create_security_group("loopback", "anything", vpc_id=self.vpc).id
        self.ami: str = next(image.id for image in backend.describe_images() if not image.platform)
        self.bucket = "loopback"
        s3_backends[DEFAULT_ACCOUNT_ID]["aws"].create_bucket(self.bucket, region)
        app = Gate(DomainDispatcherApplication(create_backend_app), key, judge, park.lock)
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Stop serving, and forget everything."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        moto_api_backend.reset()


class _Quiet(MotoRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Do not write a line for each request."""
