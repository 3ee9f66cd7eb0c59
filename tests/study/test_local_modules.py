"""Modules beside a notebook: a worker imports each once, as it was when the study was created."""

import importlib
import subprocess
import sys
import zipfile

import pytest

from seer_nb.study import local_modules, serialization
from tests.support import refusals
from tests.support.refusals import make, raised

FILES = {
    "settings_mod.py": "VALUE = 1\ndef configure(value):\n    global VALUE\n    VALUE = value\n"
    "def make_reader():\n    return lambda: VALUE\n",
    "shapes.py": "class Circle:\n    pass\n",
    "late.py": "def answer():\n    import later\n    return later.ANSWER\n",
    "later.py": "ANSWER = 42\n",
    "parts/__init__.py": "from .inner import deep\n",
    "parts/inner/__init__.py": "",
    "parts/inner/deep.py": "from pathlib import Path\nfrom importlib.resources import files\nfrom ..base import BASE\n"
    "READ = Path(__file__).parents[1].joinpath('table.csv').read_text(), (files('parts') / 'table.csv').read_text()\n",
    "parts/base.py": "BASE = 3\n",
    "parts/table.csv": "1,2",
    "spaces/one.py": "ONE = 1\n",
}
NOTEBOOK = """\
import importlib, multiprocessing, pickle, subprocess, sys
import settings_mod, parts, zipped
from shapes import Circle
import spaces.one

circle, read = Circle(), settings_mod.make_reader()

def train(config, run):
    import shapes, late
    settings_mod.configure(5)
    code = "import late, parts, settings_mod; print(late.answer(), settings_mod.VALUE)"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        spawned = pool.apply(late.answer)
    return [
        settings_mod.VALUE, read(), isinstance(circle, shapes.Circle), late.answer(), parts.deep.BASE, parts.deep.READ,
        spaces.one.ONE, zipped.ZIPPED, spawned, child.stdout or child.stderr,
    ]
"""
EXPECTED = [5, 5, True, 42, 3, ("1,2", "1,2"), 1, 8, 42, "42 1\n"]
LOAD = """\
import pathlib, pickle, sys
from seer_nb.worker import function
function.worker_folder = pathlib.Path.cwd()
if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(pickle.loads(pathlib.Path(name).read_bytes())({}, None))
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    return refusals.home(tmp_path, monkeypatch)


@pytest.fixture
def beside(tmp_path, monkeypatch):
    """A folder with a notebook's modules; they are forgotten afterwards."""
    folder = tmp_path / "beside"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with zipfile.ZipFile(folder / "archive.zip", "w") as file:
        file.writestr("zipped.py", "ZIPPED = 8\n")
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.syspath_prepend(folder / "archive.zip")
    yield folder
    own = {name.partition("/")[0].partition(".")[0] for name in FILES} | {
        "zipped",
        "fails",
        "wide",
        "click",
        "colorsys",
    }
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]


def in_notebook(code, name="train"):
    """Run code as a notebook's cells, and return what it defines under a name."""
    namespace = {"__name__": "__main__"}
    exec(code, namespace)
    return namespace[name]


def on_a_worker(folder, *pickles):
    """Return what a new worker prints when it loads and calls functions one after the other."""
    folder.mkdir()
    for number, pickled in enumerate(pickles):
        (folder / str(number)).write_bytes(pickled)
    (folder / "load.py").write_text(LOAD)
    command = [sys.executable, "-P", "load.py", *map(str, range(len(pickles)))]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_local_module_is_one_module_on_a_worker(beside, tmp_path, shared):
    pickled = serialization.ship(in_notebook(NOTEBOOK), shared=shared).pickled
    if not shared:
        beside.rename(tmp_path / "gone")
    assert on_a_worker(tmp_path / "worker", pickled) == f"{EXPECTED}\n"


SHORT = "import settings_mod\nfrom shapes import Circle\ncircle, read = Circle(), settings_mod.make_reader()\n"
SHORT += "def train(config, run):\n    import shapes, late\n    settings_mod.configure(settings_mod.VALUE + 4)\n"
SHORT += "    return settings_mod.VALUE, read(), isinstance(circle, shapes.Circle), late.answer()\n"


def test_each_study_has_the_modules_as_they_were_at_its_creation(beside, tmp_path):
    """Also on a worker that serves one study after the other, and while the user edits."""
    train = in_notebook(SHORT)
    first = serialization.ship(train, shared=True).pickled
    (beside / "settings_mod.py").write_text(FILES["settings_mod.py"].replace("VALUE = 1", "VALUE = 20"))
    with pytest.warns(UserWarning, match=r"settings_mod\.py changed after the import: the study uses the file as it"):
        second = serialization.ship(train, shared=True).pickled
    (beside / "settings_mod.py").write_text("VALUE = 'edited'")
    expected = "(5, 5, True, 42)\n(24, 24, True, 42)\n(5, 5, True, 42)\n"
    assert on_a_worker(tmp_path / "worker", first, second, first) == expected


def test_a_module_that_fails_on_a_worker_is_named(beside, tmp_path):
    (beside / "fails.py").write_text("import os\nif os.path.exists('load.py'):\n    import gone_module\n")
    pickled = serialization.ship(in_notebook("import fails\ndef train(config, run):\n    return fails.os")).pickled
    last = on_a_worker(tmp_path / "worker", pickled).strip().splitlines()[-1]
    assert last == (
        f"ImportError: {beside / 'fails.py'} cannot be imported on a worker: "
        "ModuleNotFoundError: No module named 'gone_module'"
    )


def test_a_module_that_hides_one_of_the_workers_is_refused(beside, monkeypatch):
    (beside / "click.py").write_text("X = 1\n")
    monkeypatch.delitem(sys.modules, "click", raising=False)
    importlib.invalidate_caches()
    train = in_notebook("import click\ndef train(config, run):\n    return click.X")
    sentence = raised(ValueError, make, train)
    refusal = "train=train cannot be sent to the workers: a new process cannot load it"
    path = beside / "click.py"
    assert sentence.startswith(f"{refusal} (ImportError: {path} has the name of a module that workers use, ")
    assert sentence.endswith("; rename it)")


def test_a_module_named_as_one_of_python_is_refused(beside, monkeypatch):
    (beside / "colorsys.py").write_text("X = 1\n")
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    importlib.invalidate_caches()
    train = in_notebook("import colorsys\ndef train(config, run):\n    return colorsys.X")
    path = beside / "colorsys.py"
    sentence = f"train=train cannot be sent to the workers: it uses {path}, which has the name of a module of Python"
    assert raised(ValueError, make, train) == f"{sentence}; rename it"


def test_modules_too_large_for_other_machines_are_refused(beside, monkeypatch):
    monkeypatch.setattr(local_modules, "MAX_BYTES", 2**20)
    (beside / "parts" / "huge.bin").write_bytes(bytes(2**21))
    train = in_notebook("import parts\ndef train(config, run):\n    return parts.deep.BASE")
    with pytest.raises(
        ValueError, match=r"it uses the module 'parts' \(.*\), with all modules 6 files of 2 MiB; expec"
    ):
        serialization.ship(train, shared=False)
    assert b"huge.bin" not in serialization.ship(train, shared=True).pickled


def test_only_modules_that_a_function_needs_are_sent(beside):
    importlib.import_module("parts")
    (beside / "unused.py").write_text("")
    files = local_modules.collect({"late", "json", "torch", "seer_nb", "nowhere"}, shared=True)
    assert set(files) == {"late.py", "later.py"}


REGISTERING = """\
class Net:
    found = {}

    def __init_subclass__(cls, *, key):
        Net.found[key] = cls

class Wide(Net, key="wide"):
    pass
"""
BY_KEYWORD = """\
class Meta(type):
    def __new__(kind, name, bases, names, *, key):
        return super().__new__(kind, name, bases, names)

    def __init__(cls, name, bases, names, *, key):
        cls.key = key

class Wide(metaclass=Meta, key="wide"):
    pass
"""
ERROR = """\
class WideError(Exception):
    def __init__(self, a, b):
        super().__init__("no arguments kept")

Wide = WideError(1, 2)
"""
PROXY = """\
class Proxy:
    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

Wide = Proxy(3)
"""


@pytest.mark.parametrize(
    ("code", "error", "name"),
    [
        (REGISTERING, "TypeError: Net.__init_subclass__() missing 1 required keyword-only argument: 'key'", "Wide"),
        (BY_KEYWORD, "TypeError: Meta.__new__() missing 1 required keyword-only argument: 'key'", "Wide"),
        (ERROR, "TypeError: WideError.__init__() missing 1 required positional argument: 'b'", "WideError"),
        (PROXY, "RecursionError: maximum recursion depth exceeded", "Proxy"),
    ],
    ids=["subclass", "metaclass", "exception", "proxy"],
)
def test_what_only_fails_when_a_worker_loads_it_is_refused(beside, tmp_path, code, error, name):
    use = "def train(config, run):\n    return Wide.__name__, Wide.found\n"
    assert raised(ValueError, make, in_notebook(code + use)) == (
        f"train=train cannot be sent to the workers: a new process cannot load it ({error}); it uses {name}: "
        "define classes with such methods in a .py file that the notebook imports"
    )
    # The advice helps.
    (beside / "wide.py").write_text(f"{code}\ndef name(config, run):\n    return getattr(Wide, '__name__', 'object')\n")
    name = importlib.import_module("wide").name
    assert on_a_worker(tmp_path / "worker", serialization.ship(name).pickled) in {"Wide\n", "object\n"}


@pytest.mark.filterwarnings("ignore:.*MiB:UserWarning")
def test_a_function_with_large_arrays_is_checked_without_their_values(beside):
    large = f"import numpy\nlarge = numpy.ones({serialization.LARGE_BYTES // 8 + 1})\n"
    use = "def train(config, run):\n    return Wide.found, large\n"
    assert "a new process cannot load it (TypeError: " in raised(
        ValueError, make, in_notebook(large + REGISTERING + use)
    )
