"""The GPUs that training may use."""

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
        # Like CUDA: entries after the first invalid one are ignored.
        ("1,-1,2", ("1",)),
        (",1", ()),
    ],
)
def test_cuda_visible_devices_is_respected(monkeypatch, visible, names):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(gpus, "built_for_cuda", lambda: True)
    assert gpus.usable_gpus() == names
    if names:
        assert Local().max_workers == len(names)


def test_cpu_build_of_torch_uses_no_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(gpus.metadata, "version", lambda _: "2.13.0+cpu")
    assert gpus.usable_gpus() == ()
    assert Local().gpus == ()
    (warning,) = doctor.check_gpus()
    assert warning.level == "warning"
    assert warning.text == "this computer has 2 GPUs, but torch 2.13.0+cpu is built for CPUs only"
    monkeypatch.setattr(gpus.metadata, "version", lambda _: "2.13.0")
    assert gpus.usable_gpus() == ("0", "1")


def test_doctor_reports_when_torch_finds_fewer_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(1000))))
    monkeypatch.setattr(gpus, "built_for_cuda", lambda: True)
    (problem,) = doctor.check_gpus()
    assert problem.level == "problem"
    assert problem.text.startswith("this computer has 1000 GPUs, but torch finds ")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert not list(doctor.check_gpus())


def test_gpus_under_wsl_are_counted_by_nvidia_smi(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA RTX (UUID: GPU-1)'\necho 'GPU 1: NVIDIA RTX (UUID: GPU-2)'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.count_with_tool() == 2
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert gpus.count_with_tool() == 0
