"""All machines of a loopback cloud: from their launch through boot and notice to their end."""

from __future__ import annotations

import logging
import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from seer_nb.loopback.host import Host
from seer_nb.loopback.records import FAILURE, SHUTDOWN, SPOT, Cause

if TYPE_CHECKING:
    from seer_nb.loopback.addresses import Block
    from seer_nb.loopback.faults import Faults
    from seer_nb.loopback.homes import Homes
    from seer_nb.loopback.market import Market

TICK_S = 0.05
_logger = logging.getLogger(__name__)


class Park:
    """The machines.

    Args:
        homes: Where they live.
        addresses: What they are numbered from.
        faults: What goes wrong.
        market: Prices of spot machines.
    """

    def __init__(self, homes: Homes, addresses: Block, faults: Faults, market: Market) -> None:
        self.addresses = addresses
        self.market = market
        self.subnet = ""
        """Where machines are that name none."""
        self.lock = threading.RLock()
        """Held while moto's tables are read or changed."""
        self._homes = homes
        self._faults = faults
        self._hosts: dict[str, Host] = {}
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="loopback-machines", daemon=True)

    def open(self) -> None:
        """Begin to look after the machines."""
        self._watcher.start()

    def close(self) -> None:
        """End every machine."""
        self._closing.set()
        self._watcher.join()
        for host in self.hosts():
            self.end(host)

    def hosts(self) -> list[Host]:
        """All machines, in the order of their launch."""
        return list(self._hosts.values())

    def host(self, instance_id: str) -> Host:
        """The machine of that id.

        Raises:
            ValueError: If there is none.
        """
        if instance_id not in self._hosts:
            known = ", ".join(self._hosts) or "none so far"
            raise ValueError(f"instance_id={instance_id!r} is no machine of this cloud: it has {known}")
        return self._hosts[instance_id]

    def launched(self, instance: Any) -> None:
        """Moto has made an instance."""
        home = self._homes.furnish(instance.id, instance.private_ip)
        self._hosts[instance.id] = Host(instance, home, self._faults.boot())

    def ended(self, instance: Any) -> None:
        """Moto calls an instance terminated: note when and why, as EC2 does."""
        host = self._hosts[instance.id]
        host.ended = datetime.now(UTC)
        instance._reason = f"{host.cause.transition} ({host.ended:%Y-%m-%d %H:%M:%S} GMT)"  # noqa: SLF001
        instance.state_reason.code = host.cause.code
        instance.state_reason.message = f"{host.cause.code}: {host.cause.message}"

    def end(self, host: Host, cause: Cause | None = None) -> None:
        """End a machine, unless it has ended: first its processes, then, for the API, the instance."""
        host.switch_off()
        with self.lock:
            if host.instance.state != "terminated":
                host.cause = cause or host.cause
                host.instance.terminate()

    def lose(self, instance_id: str) -> None:
        """A machine's hardware fails."""
        self.end(self.host(instance_id), FAILURE)

    def interrupt(self, instance_id: str, notice_s: float) -> None:
        """Tell a spot machine that it will be interrupted, and do so then.

        Raises:
            ValueError: If there is no such machine, or it is not a spot machine.
        """
        host = self.host(instance_id)
        if not host.spot:
            raise ValueError(f"instance_id={instance_id!r} is an on-demand machine: only spot machines are interrupted")
        if notice_s <= 0:
            self.end(host, SPOT)
        elif host.notice is None:
            host.notice = datetime.now(UTC) + timedelta(seconds=notice_s)

    def _watch(self) -> None:
        while not self._closing.wait(TICK_S):
            for host in self.hosts():
                try:
                    self._look_after(host)
                except Exception:
                    # One machine's trouble must not leave the others running for ever.
                    _logger.exception("machine %s", host.instance_id)

    def _look_after(self, host: Host) -> None:
        if not host.running:
            host.switch_off()
            return
        host.reap()
        if host.notice is not None and host.notice <= datetime.now(UTC):
            self.end(host, SPOT)
        elif host.wants_to_end():
            self._shut_down(host)
        else:
            self._outbid(host)
            host.boot_if_due()

    def _shut_down(self, host: Host) -> None:
        if host.instance.instance_initiated_shutdown_behavior == "terminate":
            self.end(host, SHUTDOWN)
            return
        host.switch_off()
        with self.lock:
            host.instance.stop()

    def _outbid(self, host: Host) -> None:
        """Interrupt a machine whose price has risen above what it may cost."""
        if host.max_price is not None and self.market.spot_price(host.instance.instance_type) > host.max_price:
            self.interrupt(host.instance_id, self._faults.spot_notice_s)
