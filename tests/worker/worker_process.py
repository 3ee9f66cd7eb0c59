"""A worker: hosts its store, then trains what it is told to, until its connection closes."""

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
            function, order, hook = cloudpickle.loads(connection.recv_bytes())
        except EOFError:
            break
        serve(connection, function, order, hook)
    del store


def serve(connection, function, order, hook) -> None:
    flags, records, before = GangSignals(), [], dict(os.environ)

    def send(record) -> None:
        records.append(record)
        if hook:
            hook(record, flags)

    if hook:
        hook(order, flags)
    run_member(function, order, send, flags)
    assert dict(os.environ) == before
    assert not torch.distributed.is_initialized()
    connection.send(records)


if __name__ == "__main__":
    main()
