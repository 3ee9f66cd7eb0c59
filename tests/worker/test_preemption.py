"""Notices of the providers, from an instance metadata service that answers as theirs do."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from seer_nb._utils import environment
from seer_nb.worker import preemption

AT_S = 1_800_000_000.0


class Service(ThreadingHTTPServer):
    """Answers by path; a request without its header is refused, as by the real ones."""

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


def test_aws_tells_when(service):
    service.answers["/latest/api/token"] = ("X-aws-ec2-metadata-token-ttl-seconds", "secret")
    assert preemption.look("aws") is None
    action = json.dumps({"action": "terminate", "time": "2027-01-15T08:00:00Z"})
    service.answers["/latest/meta-data/spot/instance-action"] = ("X-aws-ec2-metadata-token", action)
    assert preemption.look("aws") == AT_S


def test_gcp_tells_that_it_has_begun(service):
    path = "/computeMetadata/v1/instance/preempted"
    service.answers[path] = ("Metadata-Flavor", "FALSE")
    assert preemption.look("gcp") is None
    service.answers[path] = ("Metadata-Flavor", "TRUE")
    assert preemption.look("gcp") == pytest.approx(time.time() + preemption.LEAST_S, abs=5)


@pytest.mark.parametrize(("at", "left"), [("Fri, 15 Jan 2027 08:00:00 GMT", AT_S), ("", None)])
def test_azure_tells_of_events_of_which_only_some_matter(service, at, left):
    path = "/metadata/scheduledevents?api-version=2020-07-01"
    other = {"EventType": "Reboot", "NotBefore": "Fri, 15 Jan 2021 08:00:00 GMT"}
    service.answers[path] = ("Metadata", json.dumps({"Events": [other]}))
    assert preemption.look("azure") is None
    service.answers[path] = ("Metadata", json.dumps({"Events": [other, {"EventType": "Preempt", "NotBefore": at}]}))
    assert preemption.look("azure") == pytest.approx(left or time.time() + preemption.LEAST_S, abs=5)


def test_a_service_that_is_not_there_or_talks_nonsense_is_no_notice(service, monkeypatch):
    service.answers["/latest/api/token"] = ("X-aws-ec2-metadata-token-ttl-seconds", "secret")
    for nonsense in ("", "soon", "{}", '{"time": "tomorrow"}', "[1]"):
        service.answers["/latest/meta-data/spot/instance-action"] = ("X-aws-ec2-metadata-token", nonsense)
        assert preemption.look("aws") is None
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "127.0.0.1:9")
    assert preemption.look("aws") is None


def test_only_machines_that_may_be_taken_away_look(monkeypatch):
    for value, looks in (("", False), ("aws", True), ("gcp", True), ("azure", True), ("1", False)):
        monkeypatch.setenv(environment.SPOT_PROVIDER, value)
        assert preemption.wanted() is looks


def test_the_watch_ends_with_the_notice(service, monkeypatch):
    monkeypatch.setenv(environment.SPOT_PROVIDER, "gcp")
    service.answers["/computeMetadata/v1/instance/preempted"] = ("Metadata-Flavor", "TRUE")
    (notice,) = preemption.watch("3.0")
    assert (notice.worker, notice.reason) == ("3.0", "spot interruption")
    assert 25 < notice.left_s <= 30
