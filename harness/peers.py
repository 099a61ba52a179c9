"""The peers of a trial: devices that serve its inferences, each over a port that is open for the length of the trial.

Used by runner.run_trial, which holds the leases of all of them. A peer gets the bundle as any device does and then
`serve`, with a key and a certificate that were made for this one attempt and travel in the two orders alone. Refuses
nothing that the campaign has not been refused for already; what a peer lacks is DeviceUnsupported, as on any device,
and an error of a peer's own names it (`EdgefleetError.peer`).
"""
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from device_agents.wire import Order, Serving, costed_as
from harness.certificate import self_signed
from harness.device import Device, open_probed
from harness.errors import DeviceError, DeviceUnsupported, EdgefleetError, TrialError
from harness.fleet import DeviceSpec, FleetSpec
from harness.home import Home


class Peers:
    """Peers of a site's trials. Safe for one thread per device: each has connections of its own to its peers."""

    def __init__(self, fleet: FleetSpec, home: Home, tokens: Mapping[str, int]) -> None:
        self._fleet, self._home, self._tokens = fleet, home, tokens
        self._open: dict[tuple[str, str], tuple[Device, dict[str, Any]]] = {}
        self._pushing = {name: threading.Lock() for name in fleet.devices}

    def specs(self, order: Order) -> list[DeviceSpec]:
        return [self._fleet.devices[name] for name in sorted(order.trial.peers)]

    @contextmanager
    def serving(self, order: Order, files: Mapping[str, Path], due_s: float, *, begun: bool) -> Iterator[Order]:
        """The order, with what the device must know of its peers; they serve until the end of the block.

        `begun`: the device runs this attempt already, so its peers serve it, and there is nothing to be told.
        """
        key, found = secrets.token_hex(32), {}
        asked: set[str] = set()
        try:
            for spec in self.specs(order) if not begun else ():
                with _blaming(spec.name):
                    device = self._device(order, spec)
                    with self._pushing[spec.name]:
                        device.push(files)
                    asked.add(spec.name)
                    serving = self._serving(order, spec, key, due_s)
                    found[spec.name] = {"host": serving.host, "port": device.serve(serving),
                                        "certificate": serving.certificate}
            extra = {"remote": {"key": key, "peers": found}} if found else {}
            yield order._replace(extra={**order.extra, **extra})
        finally:
            for spec in self.specs(order):
                if begun or spec.name in asked:
                    with suppress(DeviceError, TrialError):     # a peer that died in the trial has nothing to stop
                        self._device(order, spec).stop(order.trial.id, order.attempt)

    def pushing(self, device: str) -> threading.Lock:
        """To be held while something is pushed to `device`, which may be another one's peer."""
        return self._pushing[device]

    def close(self) -> None:
        for device, _ in self._open.values():
            device.close()

    def _device(self, order: Order, spec: DeviceSpec) -> Device:
        engine, _ = costed_as(order.trial.engine, order.trial.runtime)
        key = (order.trial.device, spec.name)
        if key not in self._open:
            self._open[key] = open_probed(spec, self._home)
        device, facts = self._open[key]
        has = facts["engines"].get(engine, {}).get("runtime")
        if has is None:
            raise DeviceUnsupported(f"{spec.name}, peer of {order.trial.device}: no runtime for {engine}")
        return device

    def _serving(self, order: Order, spec: DeviceSpec, key: str, due_s: float) -> Serving:
        trial = order.trial
        engine, _ = costed_as(trial.engine, trial.runtime)
        address = spec.address_for(self._fleet.devices[trial.device])
        assert address is not None              # or else the campaign was refused
        certificate, private_key = self_signed()
        return Serving(trial.id, order.attempt, self._tokens[spec.name], trial.bundle, engine, {}, spec.slowdown,
                       address, key, due_s, certificate, private_key)


@contextmanager
def _blaming(peer: str) -> Iterator[None]:
    try:
        yield
    except EdgefleetError as error:
        error.peer = peer
        raise
