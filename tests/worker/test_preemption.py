"""Preemption notices from an instance metadata service that answers like the providers' own."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seer_nb._utils import environment
from seer_nb.worker import preemption

AT_S = 1_800_000_000.0


class Service(ThreadingHTTPServer):
    """Answers by path; rejects a request without its header, like the real services."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        header, text = self.server.answers.get(self.path, ("", None))
        if text is None:
            self.send_error(404)
        elif header not in self.headers:
            self.send_error(403)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

    def do_PUT(self):
        self.do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture
def service(monkeypatch):
    opened = Service()
    for name in ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "GCE_METADATA_ROOT", "SEER_AZURE_METADATA"):
        monkeypatch.setenv(name, opened.url)
    yield opened
    opened.shutdown()
    opened.server_close()


def test_aws_gives_the_time_of_preemption(service):
    service.answers["/latest/api/token"] = ("X-aws-ec2-metadata-token-ttl-seconds", "secret")
    assert preemption.preemption_time("aws") is None
    action = json.dumps({"action": "terminate", "time": "2027-01-15T08:00:00Z"})
    service.answers["/latest/meta-data/spot/instance-action"] = ("X-aws-ec2-metadata-token", action)
    assert preemption.preemption_time("aws") == AT_S


def test_gcp_announces_that_preemption_has_started(service):
    path = "/computeMetadata/v1/instance/preempted"
    service.answers[path] = ("Metadata-Flavor", "FALSE")
    assert preemption.preemption_time("gcp") is None
    service.answers[path] = ("Metadata-Flavor", "TRUE")
    assert preemption.preemption_time("gcp") == pytest.approx(time.time() + preemption.NOTICE_S, abs=5)


@pytest.mark.parametrize(("at", "left"), [("Fri, 15 Jan 2027 08:00:00 GMT", AT_S), ("", None)])
def test_azure_announces_events_of_which_only_preemptions_count(service, at, left):
    path = "/metadata/scheduledevents?api-version=2020-07-01"
    other = {"EventType": "Reboot", "NotBefore": "Fri, 15 Jan 2021 08:00:00 GMT"}
    service.answers[path] = ("Metadata", json.dumps({"Events": [other]}))
    assert preemption.preemption_time("azure") is None
    service.answers[path] = ("Metadata", json.dumps({"Events": [other, {"EventType": "Preempt", "NotBefore": at}]}))
    assert preemption.preemption_time("azure") == pytest.approx(left or time.time() + preemption.NOTICE_S, abs=5)


def test_an_unreachable_or_malformed_service_is_not_a_notice(service, monkeypatch):
    service.answers["/latest/api/token"] = ("X-aws-ec2-metadata-token-ttl-seconds", "secret")
    for malformed in ("", "soon", "{}", '{"time": "tomorrow"}', "[1]"):
        service.answers["/latest/meta-data/spot/instance-action"] = ("X-aws-ec2-metadata-token", malformed)
        assert preemption.preemption_time("aws") is None
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "127.0.0.1:9")
    assert preemption.preemption_time("aws") is None


def test_only_machines_that_may_be_preempted_poll(monkeypatch):
    for value, polls in (("", False), ("aws", True), ("gcp", True), ("azure", True), ("1", False)):
        monkeypatch.setenv(environment.SPOT_PROVIDER, value)
        assert preemption.is_announced() is polls


def test_watching_ends_with_the_notice(service, monkeypatch):
    monkeypatch.setenv(environment.SPOT_PROVIDER, "gcp")
    service.answers["/computeMetadata/v1/instance/preempted"] = ("Metadata-Flavor", "TRUE")
    (notice,) = preemption.watch("3.0")
    assert (notice.worker, notice.reason) == ("3.0", "spot interruption")
    assert 25 < notice.left_s <= 30
