"""Which GPUs are the user's to train on."""

import pytest

from seer_nb import Local
from seer_nb.providers.local import gpus
from seer_nb.ui.cli.doctor import local as doctor


@pytest.mark.parametrize(
    ("visible", "names"),
    [
        ("", ()),
        ("-1", ()),
        ("2", ("2",)),
        (" 3, 1 ", ("3", "1")),
        ("GPU-3a5b,MIG-77", ("GPU-3a5b", "MIG-77")),
        # As CUDA reads it: what follows the first that is none does not count.
        ("1,-1,2", ("1",)),
        (",1", ()),
    ],
)
def test_those_that_are_left_out_are_somebody_elses(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(gpus, "built_for_cuda", lambda: True)
    assert gpus.usable() == names
    if names:
        assert Local().max_workers == len(names)


def test_a_torch_for_cpus_has_no_use_for_them(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(gpus.metadata, "version", lambda _: "2.13.0+cpu")
    assert gpus.usable() == ()
    assert Local().gpus == ()
    (warning,) = doctor.check_gpus()
    assert warning.level == "warning"
    assert warning.text == "this computer has 2 GPUs, but torch 2.13.0+cpu is built for CPUs only"
    monkeypatch.setattr(gpus.metadata, "version", lambda _: "2.13.0")
    assert gpus.usable() == ("0", "1")


def test_the_doctor_says_when_torch_finds_fewer(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(1000))))
    monkeypatch.setattr(gpus, "built_for_cuda", lambda: True)
    (problem,) = doctor.check_gpus()
    assert problem.level == "problem"
    assert problem.text.startswith("this computer has 1000 GPUs, but torch finds ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not list(doctor.check_gpus())


def test_under_windows_nvidias_tool_counts_them(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA RTX (UUID: GPU-1)'\necho 'GPU 1: NVIDIA RTX (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus._told() == 2
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus._told() == 0
