"""A worker process: hosts its store, then trains the tasks it receives, until its connection closes."""

import gc
import os
import sys
from multiprocessing.connection import Client

import cloudpickle
import torch
import torch.distributed

from seer_nb.worker.agent import GangSignals
from seer_nb.worker.member import run_member
from seer_nb.worker.rendezvous import host_store


def main() -> None:
    torch.set_num_threads(1)
    connection = Client(sys.argv[1], authkey=b"seer")
    store, port = host_store("127.0.0.1")
    gc.freeze()
    connection.send(port)
    while True:
        try:
            function, task, hook = cloudpickle.loads(connection.recv_bytes())
        except EOFError:
            break
        serve(connection, function, task, hook)
    del store


def serve(connection, function, task, hook) -> None:
    signals, records, before = GangSignals(), [], dict(os.environ)

    def send(record) -> None:
        records.append(record)
        if hook:
            hook(record, signals)

    if hook:
        hook(task, signals)
    run_member(function, task, send, signals)
    assert dict(os.environ) == before
    assert not torch.distributed.is_initialized()
    connection.send(records)


if __name__ == "__main__":
    main()
