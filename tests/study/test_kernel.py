"""Studies started in a real Jupyter kernel, which is then restarted."""

import pytest
from jupyter_client.manager import KernelManager

import seer_nb as seer
from tests.support.studies import processes
from tests.support.waiting import until

pytestmark = pytest.mark.slow  # real processes and real time

START = """
import time
import seer_nb as seer

OFFSET = 10

def helper(value):
    return value + OFFSET

def train(config, run):
    for epoch in run.epochs():
        time.sleep(0.25)
        run.state["epoch"] = epoch
        run.report(accuracy=helper(epoch))

began = time.monotonic()
study = seer.Study(train, {"x": seer.choice([0, 1])}, metric="accuracy", mode="max", max_epochs=40, deadline="100s",
                   budget="$0.005", provider=seer.Local(max_workers=2), policy="random_search", name="study").start()
print(time.monotonic() - began)
"""


class Kernel:
    """A kernel and its cells."""

    def __init__(self, folder):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(folder))
        self.connect()

    def connect(self):
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code):
        """Return the output of a cell."""
        printed = []

        def output(message):
            assert message["msg_type"] != "error", "\n".join(message["content"].get("traceback", []))
            printed.append(message["content"].get("text", ""))

        reply = self.client.execute_interactive(code, timeout=90, output_hook=output, allow_stdin=False)
        assert reply["content"]["status"] == "ok"
        return "".join(printed).strip()

    def restart(self):
        self.client.stop_channels()
        self.manager.restart_kernel(now=True)
        self.connect()

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernels(home):
    opened = []

    def make():
        opened.append(Kernel(home))
        return opened[-1]

    yield make
    for kernel in opened:
        kernel.close()


def test_a_study_survives_a_kernel_restart_and_two_kernels_can_control_it(home, kernels):
    first = kernels()
    assert float(first.run(START)) < 1.0, "start() returns at once"
    until(lambda: len(seer.attach("study").curves()) >= 2, "the second report")
    first.restart()
    # Nothing has changed: the same runner, the same trials, and they go on.
    attach = 'import seer_nb as seer; study = seer.attach("study"); '
    before = int(first.run(attach + 'print(len(study.curves())); assert study.status == "running", study.status'))
    until(lambda: len(seer.attach("study").curves()) > before, "another report")

    second = kernels()
    second.run(attach + 'study.adjust(budget="$0.006"); study.pin(1)')
    until(lambda: seer.attach("study").state.budget_micro == 6_000, "the new budget")
    seen = first.run("print(study.state.budget_micro, study.state.trials[1].pinned, study.status)")
    assert seen == "6000 True running"
    assert "study study: running" in first.run("print(study._repr_mimebundle_()['text/plain'])")
    first.run("study.stop_trial(0)")
    until(lambda: seer.attach("study").state.trials[0].state == "stopped", "the end of trial 0")
    second.run("study.stop(); await study")
    assert first.run("print(study.status, study.reason)") == "ended stopped by hand"
    table = seer.attach("study").results()
    assert table.reason.tolist()[0] == "stopped by hand"
    assert (table.value > 10).all(), "the helper and the global of the cell came along"
    # The kernels have SEER_HOME in their environment too.
    left = lambda: [p for p in processes(home) if "ipykernel" not in " ".join(p.cmdline())]  # noqa: E731
    until(lambda: not left(), "the end of the processes of the study")
