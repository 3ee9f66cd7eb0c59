"""Removal of checkpoints that fails for a while, or for good."""

import asyncio
import logging

import pytest

from seer_nb.runner import checkpoint_gc
from seer_nb.runner.checkpoint_gc import CheckpointRemover


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(checkpoint_gc, "PAUSE_S", 0.01)


def store(folder, *paths):
    """Create a store with some checkpoints; one that ends in a slash is a folder, which cannot be removed."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).mkdir() if path.endswith("/") else (folder / path).touch()
    return CheckpointRemover(str(folder))


def remaining(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pt"))


async def until_remaining(folder, *paths):
    async with asyncio.timeout(10):
        while remaining(folder) != [*paths]:  # noqa: ASYNC110 - a thread changes the folder
            await asyncio.sleep(0.01)


def test_a_removal_that_fails_is_repeated_and_does_not_hold_up_others(tmp_path, caplog):
    async def use():
        remover = store(tmp_path, "0/1.pt/", "1/1.pt")
        remover.remove(["0/1.pt", "1/1.pt"])
        await until_remaining(tmp_path, "0/1.pt")
        (tmp_path / "0/1.pt").rmdir()
        (tmp_path / "0/1.pt").touch()
        await until_remaining(tmp_path)
        await remover.close()

    asyncio.run(use())
    assert not caplog.records


@pytest.mark.parametrize("mended", [True, False])
def test_what_is_left_is_tried_again_at_the_end_and_then_logged(tmp_path, caplog, monkeypatch, mended):
    monkeypatch.setattr(checkpoint_gc, "PATIENCE_S", 0.0)

    async def use():
        remover = store(tmp_path, "0/1.pt/", "0/2.pt/", "1/1.pt")
        remover.remove(["0/1.pt", "0/2.pt", "1/1.pt"])
        await until_remaining(tmp_path, "0/1.pt", "0/2.pt")
        await asyncio.sleep(0.1)
        if mended:
            for name in ("1.pt", "2.pt"):
                (tmp_path / "0" / name).rmdir()
                (tmp_path / "0" / name).touch()
        await remover.close()

    with caplog.at_level(logging.INFO):
        asyncio.run(use())
    found = [record.getMessage() for record in caplog.records if record.name == checkpoint_gc.__name__]
    if mended:
        assert (found, remaining(tmp_path)) == ([], [])
    else:
        (text,) = found
        assert text.startswith(f"checkpoints not removed from {tmp_path}: 0/1.pt, 0/2.pt: ")
