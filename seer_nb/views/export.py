"""Export of frames to csv, parquet, json, md, tex, html and xlsx. Files are written atomically and are safe to open."""

from __future__ import annotations

import html
import io
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from seer_nb._utils.files import write_atomically
from seer_nb._utils.text import short_repr
from seer_nb.errors import SeerError

if TYPE_CHECKING:
    import pandas as pd


Writer = Callable[["pd.DataFrame", str], bytes]
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
"""Start of a cell that spreadsheets evaluate as a formula, also in fullwidth characters of East Asian keyboards."""
_INNER_FORMULA = re.compile(r"(?<=[;\t\n])(?=(?:\"|[^\S\t\n])*[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""Position of a formula inside a cell, for spreadsheets that split csv at semicolons or tabs. Such a spreadsheet
ignores our quotes around a cell with a line break, and obeys quotes after a semicolon. The gap must exclude the
separators themselves; otherwise the time for a long run of tabs would be quadratic."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Characters that control a terminal, such as the colours of a traceback, or that a file cannot hold."""
_MAX_SHORT_TEXT = 24
"""Characters of the longest text in a column that needs no minimum width."""
_CSS = """\
:root { color-scheme: light dark; }
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { font-weight: 600; font-size: 1.2em; text-align: left; padding-bottom: .5rem; }
th, td { padding: .3rem .7rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid #8886; }
thead th { border-bottom: 2px solid #888; position: sticky; top: 0; background: Canvas; white-space: nowrap; }
.text { text-align: left; white-space: pre-wrap; max-width: 40rem; overflow-wrap: break-word; }
.long { min-width: 24rem; }
tbody tr:nth-child(even) { background: #8881; }"""


def export(frame: pd.DataFrame, path: str | os.PathLike[str], title: str = "results") -> Path:
    """Write a frame to a file, in the format of the path's suffix.

    In csv and xlsx, a text that a spreadsheet would evaluate as a formula gets a leading apostrophe; numbers stay
    numbers. After ``pandas.read_csv``, ``column.str.removeprefix("'")`` removes the apostrophe. All formats except json
    and parquet, which store every text unchanged, drop control characters.

    Args:
        frame: Any table.
        path: Path with the suffix csv, parquet, json, md, tex, html or xlsx. An existing file is replaced atomically,
            and stays unchanged after an error.
        title: Caption (html, tex) or name of the sheet (xlsx). Default: "results".

    Returns:
        The path.

    Raises:
        TypeError: path is not a path.
        ValueError: For an unknown suffix, or a folder that does not exist.
        SeerError: A package that the format needs is not installed.

    Example:
        frame = study.results()
        export(frame[frame.state == "completed"], "completed.csv")
    """
    path, suffix = _checked(path)
    try:
        content = _WRITERS[suffix](frame, title)
    except ImportError as error:
        package = _PACKAGES.get(suffix, error.name)
        raise SeerError(
            f"path={str(path)!r}: the format needs the package {package}, which is not installed; "
            'run pip install "seer_nb[export]"'
        ) from error
    write_atomically(path, content)
    return path


def formats() -> tuple[str, ...]:
    """Return the suffixes of all formats."""
    return tuple(_WRITERS)


def _checked(given: str | os.PathLike[str]) -> tuple[Path, str]:
    """Validate a path; return it with its suffix in lower case, without the dot."""
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f'path={short_repr(given)}: not a path; expected a path such as "results.csv"')
    path = Path(given)
    if "\0" in str(path):
        raise ValueError(f"path={short_repr(str(path))}: contains the character NUL; expected a valid file name")
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in _WRITERS:
        raise ValueError(f"path={str(path)!r}: unknown suffix {path.suffix!r}; expected one of .{', .'.join(_WRITERS)}")
    if not path.parent.is_dir():
        raise ValueError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}; expected an existing one")
    if path.is_dir():
        raise ValueError(f"path={str(path)!r}: is a folder; expected the name of a file")
    return path, suffix


def _csv(frame: pd.DataFrame, _: str) -> bytes:
    table = frame.map(lambda cell: json.dumps(cell) if isinstance(cell, list | dict) else cell)
    return _map_text(table, lambda text: _INNER_FORMULA.sub("'", _disarm(_plain(text)))).to_csv(index=False).encode()


def _parquet(frame: pd.DataFrame, _: str) -> bytes:
    content: bytes = _one_type_a_column(frame).to_parquet(None, engine="pyarrow", index=False)
    return content


def _json(frame: pd.DataFrame, _: str) -> bytes:
    # pandas' own to_json cuts floats to 15 digits.
    return msgspec.json.format(msgspec.json.encode(_records(frame)), indent=2) + b"\n"


def _markdown(frame: pd.DataFrame, _: str) -> bytes:
    table = _cells(frame, _markdown_text)
    table.columns = [_markdown_text(str(name)) for name in frame.columns]
    text: str = table.to_markdown(index=False, tablefmt="pipe", disable_numparse=True)
    return f"{text}\n".encode()


def _latex(frame: pd.DataFrame, title: str) -> bytes:
    table = _cells(frame, _latex_text)
    table.columns = [_latex_text(str(name)) for name in frame.columns]
    kinds = "".join("l" if _is_text(frame[name]) else "r" for name in frame.columns)
    text: str = table.to_latex(index=False, escape=False, caption=_latex_text(title), column_format=kinds or None)
    return text.encode()


def _html(frame: pd.DataFrame, title: str) -> bytes:
    texts = [_html_class(frame[name]) for name in frame.columns]
    headings = zip(map(str, frame.columns), texts, strict=True)
    head = "".join(f'<th scope="col"{kind}>{_html_text(heading)}</th>' for heading, kind in headings)
    rows = (
        "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(cells, texts, strict=True))
        for cells in _cells(frame, _html_text).itertuples(index=False, name=None)
    )
    name = _html_text(title)
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{name}</title>\n<style>\n{_CSS}\n</style>\n</head>\n<body>\n<main>",
            f"<table>\n<caption>{name}</caption>\n<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>",
            *(f"<tr>{row}</tr>" for row in rows),
            "</tbody>\n</table>\n</main>\n</body>\n</html>\n",
        )
    ).encode()


def _html_class(column: pd.Series[Any]) -> str:
    if not _is_text(column):
        return ""
    # Without a minimum width, a table wider than the window would show one word per line.
    long = column.astype(str).str.len().max() > _MAX_SHORT_TEXT
    return ' class="text long"' if long else ' class="text"'


def _xlsx(frame: pd.DataFrame, title: str) -> bytes:
    buffer = io.BytesIO()
    sheet = re.sub(r"[\[\]:*?/\\']", " ", title)[:31].strip() or "results"
    table = _map_text(frame, lambda text: _disarm(_plain(text)))
    _one_type_a_column(table).to_excel(buffer, sheet_name=sheet, index=False, engine="openpyxl", freeze_panes=(1, 0))
    return buffer.getvalue()


_WRITERS: dict[str, Writer] = {
    "csv": _csv,
    "parquet": _parquet,
    "json": _json,
    "md": _markdown,
    "tex": _latex,
    "html": _html,
    "xlsx": _xlsx,
}
_PACKAGES = {"parquet": "pyarrow", "md": "tabulate", "xlsx": "openpyxl"}


def _disarm(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(text: str) -> str:
    # A lone carriage return would end a row of a csv file, because it is not quoted.
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _html_text(text: str) -> str:
    return html.escape(_plain(text))


def _markdown_text(text: str) -> str:
    # Escape html, links, code and images; a lone _ or * is harmless.
    text = re.sub(r"[\\\\|\[\]`]", r"\\\g<0>", html.escape(_plain(text), quote=False))
    return re.sub(r"\r\n|\r|\n", "<br>", text)


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    # At the start of a row, "[" or "*" would be read as an argument of the line break before it.
    "[": "{[}",
    "*": "{*}",
}


def _latex_text(text: str) -> str:
    """Escape a text for LaTeX and put it on one line, because an empty line would end the paragraph."""
    return "".join(_LATEX.get(character, character) for character in " ".join(_plain(text).split()))


def _map_text(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """Apply a function to every text, including the headings."""
    table = frame.map(lambda cell: change(cell) if isinstance(cell, str) else cell).astype(dict(frame.dtypes))
    table.columns = [change(str(name)) for name in frame.columns]
    return table


def _cells(frame: pd.DataFrame, escape: Callable[[str], str]) -> pd.DataFrame:
    """Format all cells as text: floats with six digits, lists as JSON, missing values as empty."""
    return frame.astype(object).map(lambda cell: escape(_cell(cell)))


def _cell(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | dict):
        return json.dumps(value)
    if _is_missing(value):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _is_missing(value: object) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value != value  # noqa: PLR0124 - only NaN differs from itself


def _is_text(column: pd.Series[Any]) -> bool:
    return column.dtype.kind == "O" and any(isinstance(value, str) for value in column)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows = frame.astype(object).to_dict("records")
    return [{str(name): None if _is_missing(value) else value for name, value in row.items()} for row in rows]


def _one_type_a_column(frame: pd.DataFrame) -> pd.DataFrame:
    """Convert columns of several types or of lists to JSON text, because these formats have one type per column."""
    table = frame.copy()
    # By position: two names may be equal after their control characters were dropped.
    for index in range(table.shape[1]):
        column = table.iloc[:, index]
        kinds = {type(value) for value in column if not _is_missing(value)}
        if column.dtype.kind == "O" and (len(kinds) > 1 or kinds & {list, dict}):
            table.isetitem(index, [None if _is_missing(value) else json.dumps(value) for value in column])
    return table
