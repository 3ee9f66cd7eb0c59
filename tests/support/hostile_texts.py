"""Texts that try to run scripts, formulas or commands, and a study that is full of them."""

import html.parser

from seer_nb import core
from tests.support.records import Builder

SCRIPTS = (
    "<script>window.stolen=1</script>",
    '"><img src=x onerror=window.stolen=1>',
    "'><svg onload=window.stolen=1>",
    "</style></title></textarea><script>window.stolen=1</script>",
    "</script><script>window.stolen=1</script>",
    "<a href='javascript:window.stolen=1'>click</a>",
    "[click](javascript:window.stolen=1)",
    "![](https://example.invalid/pixel.png)",
    "$\\href{javascript:window.stolen=1}{click}$",
    "<iframe srcdoc='&lt;script&gt;window.stolen=1&lt;/script&gt;'>",
    "{{7*7}}${7*7}%{y}",
    "<!--",
    "]]>",
)
FORMULAS = (
    "=cmd|'/c calc'!A0",
    "+1+1",
    "-2+3+cmd|'/c calc'!A0",
    "@SUM(1+1)*cmd|'/c calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    " =1+1",
    "\uff1d1+1",
    '=HYPERLINK("https://example.invalid/?"&A1,"click")',
)
PATHS = ("../up", "..", ".", "/etc/passwd", "a/b", "a\\b", "~", "-rf", "CON", "nul\0", "a\nb", " ", "")
ODD = (
    "\0",
    "\x1b[2J\x1b]0;owned\x07",
    "\x9b31m",
    "\u202egnp.exe\u202c",
    "ע\u200fש",
    "\U0001f4a5" * 50,
    "e\u0301" * 20,
    "x" * 10_000,
    "\ufeff",
    "\ufffe",
    "%s%n{0}",
    "'; DROP TABLE records; --",
    "\\input{/etc/passwd}",
    "\\\\[evil]",
)
ALL = (*SCRIPTS, *FORMULAS, *ODD)
FORBIDDEN = {"script", "img", "iframe", "object", "embed", "link", "base", "form", "a"}


def study(texts=ALL, **settings):
    """Build a study with each text as a hyperparameter's name and value, a metric's name, a reason and an error."""
    made = Builder(metric=texts[0], policy=texts[0], **settings).machine(0, 0.0, 1.0)
    made.draw(*({text: text for text in texts} for _ in range(4)))
    made.start(0, 0, "0.0").report(0, 0.5, **dict.fromkeys(texts, 1.0))
    for text in texts:
        made.apply(core.Note(reason=text))
    made.apply(core.GangEnded(gang=0, outcome="lost", error=texts[0]))
    made.apply(core.EndTrial(trial=0, state="failed", reason=texts[1 % len(texts)], error="\n".join(texts)))
    for place, text in enumerate(texts[:3], 1):
        made.start(place, place, "0.0").report(place, 0.5 + place / 10).end(place, "stopped", text, text)
    made.apply(core.WorkerFailed(worker=texts[0], error=texts[0]))
    made.apply(core.MachineLeaving(machine=0, left_s=9.0, reason=texts[0]))
    made.apply(core.MachineEnded(machine=0, expected=False, reason=texts[0]))
    return made.apply(core.BeginEnd(reason=texts[0]))


class Tags(html.parser.HTMLParser):
    """Elements, attributes and texts of a page, as a browser would parse it."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return "".join(self.texts)


def assert_harmless(page):
    """Assert that no hostile text became an element or an attribute; return the parsed page."""
    found = Tags(page)
    assert not FORBIDDEN & set(found.tags)
    for name, value in found.attributes:
        assert not name.startswith("on"), name
        assert name not in {"href", "src", "srcdoc", "action", "formaction", "xlink:href"}, name
        assert name != "style" or "url(" not in value
    return found
