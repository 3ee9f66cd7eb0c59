"""Requests to price APIs: a local HTTP server that answers well, badly, late or not at all."""

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from seer_nb.errors import SeerError
from seer_nb.providers.prices import refresh
from tests.support.refusals import raised


class Site(ThreadingHTTPServer):
    """Answers with the result of ``answer(query)``: (status, content[, headers]); content is text or becomes JSON."""

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_port}/prices"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def handle_error(self, *_):
        """Ignore clients that have disconnected."""

    def pages(self, size, items, page):
        """Answer with pages of ``size`` items, each made by ``page(items, next)``; next is None on the last."""

        def answer(query):
            found = items(query)
            at = int(query.get("at", 0))
            after = str(at + size) if at + size < len(found) else None
            return 200, page(found[at : at + size], after)

        self.answer = answer


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        query = dict(parse_qsl(urlsplit(self.path).query))
        self.server.asked.append((query, {name.lower(): value for name, value in self.headers.items()}))
        status, content, *headers = self.server.answer(query)
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        usual = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(body))}
        for name, value in {**usual, **dict(*headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *args):
        pass


BAD = [
    ((403, "no"), "HTTP 403 Forbidden"),
    (
        (403, {"error": {"code": 403, "message": "Cloud Billing API is\n off."}}),
        "HTTP 403 Forbidden (Cloud Billing API",
    ),
    ((429, {"error": "slowly"}), "HTTP 429 Too Many Requests"),
    ((500, ""), "HTTP 500 Internal Server Error"),
    ((200, "<html>Please log in</html>"), "invalid response (JSON is malformed"),
    ((200, ""), "invalid response (Input data was truncated)"),
    ((200, []), "invalid response (Expected `object`, got `array`)"),
]
"""Bad responses, and the start of the message about each."""


class Numbers(msgspec.Struct):
    numbers: list[int]
    after: str | None = None


def api(url, timeout_s=5.0, **headers):
    return refresh.Api("Sky", url, "look up", headers, timeout_s)


def numbers(site, **settings):
    found = refresh.pages(api(site.url, **settings), {"$filter": "a eq 'b c'"}, Numbers, following)
    return [number for page in found for number in page.numbers]


def following(page):
    return {"at": page.after} if page.after else None


@pytest.fixture
def site(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Site(lambda query: (200, {"numbers": [1]})) as site:
        yield site


def test_all_pages_are_fetched(site):
    site.pages(2, lambda _: [1, 2, 3, 4, 5], lambda numbers, after: {"numbers": numbers, "after": after})
    assert numbers(site, key="secret") == [1, 2, 3, 4, 5]
    queries = [query for query, _ in site.asked]
    assert queries == [{"$filter": "a eq 'b c'"}, {"at": "2"}, {"at": "4"}]
    assert [headers["key"] for _, headers in site.asked] == ["secret"] * 3


@pytest.mark.parametrize(("answer", "begin"), [*BAD, ((200, {}), "invalid response (Object missing")])
def test_bad_response_becomes_one_sentence(site, answer, begin):
    site.answer = lambda query: answer
    message = raised(SeerError, numbers, site)
    assert message.startswith(f"Sky returned no prices: {begin}")
    assert message.endswith("; look up")
    assert "\n" not in message


def test_endless_response_is_an_error(site, monkeypatch):
    monkeypatch.setattr(refresh, "MAX_PAGES", 3)
    site.answer = lambda query: (200, {"numbers": [1], "after": "0"})
    assert raised(SeerError, numbers, site) == "Sky returned no prices: more than 3 pages; look up"
    assert len(site.asked) == 3


def test_api_that_does_not_answer_times_out(site):
    def late(query):
        time.sleep(0.5)
        return 200, {"numbers": []}

    site.answer = late
    assert raised(SeerError, numbers, site, timeout_s=0.1).startswith("Sky returned no prices: no response (timed out)")


def test_unreachable_api_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    message = raised(SeerError, list, refresh.pages(api(url), {}, Numbers, following))
    assert message.startswith("Sky returned no prices: no response ([Errno ")
    assert "refused" in message


def test_truncated_response_is_reported(site):
    site.answer = lambda query: (200, '{"numbers": [1', {"Content-Length": "1000"})
    assert raised(SeerError, numbers, site).startswith("Sky returned no prices: no response (IncompleteRead(")


def test_credentials_are_not_sent_to_another_site(site):
    with Site(lambda query: (200, {"numbers": [7]})) as elsewhere:
        site.answer = lambda query: (302, "", {"Location": elsewhere.url})
        assert numbers(site, key="secret") == [7]
        assert "key" in site.asked[0][1]
        assert "key" not in elsewhere.asked[0][1]
