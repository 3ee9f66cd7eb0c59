"""Asking price APIs over HTTP: a real server on loopback that answers well, badly, late or not at all."""

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
    """Answers with what ``answer(query)`` gives: (status, content[, headers]); content that is no text becomes JSON."""

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
        """One who has given up is not there any more."""

    def pages(self, size, items, page):
        """Let it answer with so many items a page, each made by ``page(items, next)``; next is None on the last."""

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
    ((200, "<html>Please log in</html>"), "its answer is not understood (JSON is malformed"),
    ((200, ""), "its answer is not understood (Input data was truncated)"),
    ((200, []), "its answer is not understood (Expected `object`, got `array`)"),
]
"""Answers that no price API should give, and how the sentence about each begins."""


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


def test_all_pages_are_asked_for(site):
    site.pages(2, lambda _: [1, 2, 3, 4, 5], lambda numbers, after: {"numbers": numbers, "after": after})
    assert numbers(site, key="secret") == [1, 2, 3, 4, 5]
    queries = [query for query, _ in site.asked]
    assert queries == [{"$filter": "a eq 'b c'"}, {"at": "2"}, {"at": "4"}]
    assert [headers["key"] for _, headers in site.asked] == ["secret"] * 3


@pytest.mark.parametrize(("answer", "begin"), [*BAD, ((200, {}), "its answer is not understood (Object missing")])
def test_a_bad_answer_is_one_sentence(site, answer, begin):
    site.answer = lambda query: answer
    told = raised(SeerError, numbers, site)
    assert told.startswith(f"Sky told no prices: {begin}")
    assert told.endswith("; look up")
    assert "\n" not in told


def test_an_answer_without_an_end_is_given_up(site, monkeypatch):
    monkeypatch.setattr(refresh, "MAX_PAGES", 3)
    site.answer = lambda query: (200, {"numbers": [1], "after": "0"})
    assert raised(SeerError, numbers, site) == "Sky told no prices: its answer has no end; look up"
    assert len(site.asked) == 3


def test_an_api_that_does_not_answer_is_given_up(site):
    def late(query):
        time.sleep(0.5)
        return 200, {"numbers": []}

    site.answer = late
    assert raised(SeerError, numbers, site, timeout_s=0.1).startswith(
        "Sky told no prices: it did not answer (timed out)"
    )


def test_an_api_that_is_not_there_is_told():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    told = raised(SeerError, list, refresh.pages(api(url), {}, Numbers, following))
    assert told.startswith("Sky told no prices: it did not answer ([Errno ")
    assert "refused" in told


def test_an_answer_that_breaks_off_is_told(site):
    site.answer = lambda query: (200, '{"numbers": [1', {"Content-Length": "1000"})
    assert raised(SeerError, numbers, site).startswith("Sky told no prices: it did not answer (IncompleteRead(")


def test_credentials_do_not_follow_to_another_site(site):
    with Site(lambda query: (200, {"numbers": [7]})) as elsewhere:
        site.answer = lambda query: (302, "", {"Location": elsewhere.url})
        assert numbers(site, key="secret") == [7]
        assert "key" in site.asked[0][1]
        assert "key" not in elsewhere.asked[0][1]
