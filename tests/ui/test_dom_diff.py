"""Messages to the browser: only changes are sent, one message at a time, and no change is lost."""

from hypothesis import given
from hypothesis import strategies as st

from seer_nb.ui.notebook.dom_diff import ACKNOWLEDGE_TIMEOUT_S, Outbox
from seer_nb.views.html import Page
from seer_nb.views.svg_charts import Piece


def page(rows, **parts):
    return Page(parts, {"rows": [Piece(str(key), content) for key, content in rows]})


def test_only_changes_are_sent():
    box = Outbox()
    first = box.message(page([(1, "a"), (2, "b")], head="x"), 0.0)
    assert first == {
        "n": 1,
        "set": {"head": "x", "rows/1": "a", "rows/2": "b"},
        "order": {"rows": ["rows/1", "rows/2"]},
    }
    assert box.message(page([(1, "a"), (2, "b")], head="x"), 1.0) is None
    assert box.message(page([(1, "a"), (2, "c")], head="x"), 2.0) == {"n": 2, "set": {"rows/2": "c"}, "order": {}}
    moved = box.message(page([(2, "c"), (1, "a")], head="x"), 3.0)
    assert moved == {"n": 3, "set": {}, "order": {"rows": ["rows/2", "rows/1"]}}


def test_next_message_waits_for_the_acknowledgement_or_its_timeout():
    box = Outbox()
    assert box.ready(0.0)
    box.message(page([(1, "a")]), 0.0)
    assert not box.ready(0.1)
    box.acknowledge(1)
    assert box.ready(0.1)
    box.message(page([(1, "b")]), 0.2)
    assert not box.ready(0.2 + ACKNOWLEDGE_TIMEOUT_S - 0.01)
    assert not box.is_late(0.2 + ACKNOWLEDGE_TIMEOUT_S - 0.01)
    assert box.ready(0.2 + ACKNOWLEDGE_TIMEOUT_S)
    assert box.is_late(0.2 + ACKNOWLEDGE_TIMEOUT_S)


class Browser:
    """Model of dashboard.js: it applies messages as the browser does."""

    def __init__(self):
        self.number, self.parts, self.orders = 0, {}, {}

    def take(self, message, *, whole=False):
        if whole:
            self.parts, self.orders = dict(message["set"]), dict(message["order"])
        else:
            assert message["n"] == self.number + 1
            self.parts |= message["set"]
            for name, keys in message["order"].items():
                for key in set(self.orders.get(name, [])) - set(keys):
                    self.parts.pop(key, None)
                self.orders[name] = keys
        self.number = message["n"]

    def shows(self):
        return [self.parts[key] for key in self.orders.get("rows", [])]


rows = st.dictionaries(st.integers(0, 5), st.sampled_from("abc"), max_size=5)


@given(st.lists(rows, max_size=12), st.data())
def test_browser_always_shows_the_last_page(pages, data):
    box, browser = Outbox(), Browser()
    for given_rows in pages:
        order = data.draw(st.permutations(list(given_rows.items())))
        message = box.message(page(order), 0.0)
        if message is not None:
            browser.take(message)
        assert browser.shows() == [content for _, content in order]
    late = Browser()
    late.take(box.whole(), whole=True)
    assert late.shows() == browser.shows()
