"""RTU: three controllers on one serial bus and one behind a converter, against pymodbus.

The bus is a pseudo-terminal. A relay hands each request to the controller it names, at 19,200
baud, and passes on what any of them says. `FramerType.RTU` of pymodbus frames and checks it all,
so nothing here was written by whoever wrote the daemon's codec. (On a real bus all hear all; but a
server of pymodbus 3.16 refuses what is not for it, in the name of the unit that was asked.)
"""

import os
import pty
import select
import socket
import threading
import time
import tty

import sites
from controllers import Controllers
from world import World, until

from .devices import all_known

BAUD = 19_200
CHARACTER_S = 10 / BAUD
# Above the 3.5 characters that end a frame, below what a unit needs to answer.
PAUSE_S = 0.003
ON_BUS, CONVERTED = ["zc-01", "zc-02", "zc-03"], "zc-04"
ADDRESS = {"zc-01": 1, "zc-02": 2, "zc-03": 3, "zc-04": 4}
SICK = "zc-02"


class RtuControllers(Controllers):
    def __init__(self, ports):
        super().__init__({unit: [port, ADDRESS[unit]] if unit in ADDRESS else port
                          for unit, port in ports.items()})


class Bus(threading.Thread):
    """Two wires; `ports` says behind which port each address is."""

    def __init__(self, ports):
        super().__init__(daemon=True)
        self.ports, self.links, self.running, self.requests = ports, {}, True, 0
        self.master, slave = pty.openpty()
        tty.setraw(slave)
        self.path, self.slave = os.ttyname(slave), slave

    def run(self):
        while self.running:
            ready, _, _ = select.select([self.master, *self.links.values()], [], [], 0.05)
            if self.master in ready:
                self.ask()
            for port, link in list(self.links.items()):
                if link in ready:
                    self.answer(port, link)

    def ask(self):
        request = b""
        while select.select([self.master], [], [], PAUSE_S)[0]:
            request += os.read(self.master, 512)
        self.requests += 1
        time.sleep(max(0, len(request) * CHARACTER_S - PAUSE_S))
        port = self.ports.get(request[0])
        try:
            if port and port not in self.links:
                self.links[port] = socket.create_connection(("127.0.0.1", port), 0.2)
            if port:
                self.links[port].sendall(request)
        except OSError:
            self.links.pop(port, None)

    def answer(self, port, link):
        try:
            answer = link.recv(512)
        except OSError:
            answer = b""
        if not answer:
            self.links.pop(port).close()
        for at in range(0, len(answer), 4):
            time.sleep(4 * CHARACTER_S)
            os.write(self.master, answer[at:at + 4])

    def stop(self):
        self.running = False
        self.join()
        for link in self.links.values():
            link.close()
        os.close(self.slave)
        os.close(self.master)


def rewire(world):
    """Moves the controllers from their TCP lines to the bus and the converter."""
    bus = Bus({ADDRESS[unit]: world.site.ports[unit] for unit in ON_BUS})
    world.stack.callback(bus.stop)
    for path in (world.folder / "garages").glob("*.toml"):
        text = path.read_text()
        for unit in ADDRESS:
            own = sites.LINE.format(id=unit, port=world.site.ports[unit], period=sites.PERIOD_MS,
                                    profile="zone-controller")
            text = text.replace(own, "")
        path.write_text(text)
    port = world.site.ports[CONVERTED]
    lines = line("bus", f'serial = "{bus.path}"', ON_BUS)
    lines += line("far", f'rtu_tcp = "127.0.0.1:{port}"', [CONVERTED])
    config = world.site.config
    config.write_text(config.read_text() + lines)
    bus.start()
    return bus


def line(name, wire, units):
    text = (f'[[line]]\nid = "{name}"\n{wire}\nbaud = {BAUD}\nperiod_ms = {sites.PERIOD_MS}\n'
            "timeout_ms = 150\n")
    for unit in units:
        text += (f'[[line.unit]]\nid = "{unit}"\naddress = {ADDRESS[unit]}\n'
                 'profile = "zone-controller"\n')
    return text


def serial_bus(bench):
    """Three units on a serial bus, one behind a converter; one falls silent, dawdles, babbles."""
    with World(bench.binary, devices=RtuControllers, controllers=4, garages=2, bays=60) as world:
        bus = rewire(world)
        bench.fill(world, 0.5)
        world.daemon.start()
        took = until(lambda: all_known(world), 10)
        bench.check("all bays are known", took is not None, world.daemon.units())
        time.sleep(3)
        faults = world.picture_faults() + world.sign_faults()
        bench.check("picture and signs are right", not faults, faults[:3])
        for mode, ms in (("silent", 0), ("slow", 400), ("babble", 0)):
            trouble(bench, world, mode, ms)
        bench.fill(world, 0.7)
        time.sleep(5)
        faults = world.picture_faults() + world.sign_faults()
        bench.check("picture and signs are right at the end", not faults, faults[:3])
        faults = world.upstream_faults()
        bench.check("the judge finds nothing wrong", not faults, faults[:5])
        code, took = world.daemon.stop()
        bench.check("it stops within 5 s", code == 0 and took < 5, (code, took))
        bench.note(f"{bus.requests} requests on the bus")


def trouble(bench, world, mode, ms):
    world.controllers.mode(SICK, mode, ms)
    sick = next(zone for zone in world.site.zones if zone.unit == SICK)
    gone = until(lambda: world.daemon.garages()[sick.garage]["unknown"] == sick.bays, 15)
    bench.check(f"{mode}: its bays are unknown", gone is not None, world.daemon.garages())
    time.sleep(2)
    world.controllers.forget()
    time.sleep(6)
    late = {}
    for unit, stats in world.controllers.stats().items():
        if unit in ADDRESS and unit != SICK:
            gaps = [b - a for a, b in zip(stats["sweeps"], stats["sweeps"][1:])]
            late[unit] = max(gaps, default=99)
    worst = max(late.values())
    bench.check(f"{mode}: its neighbours are read", worst < 1.25, late)
    bench.note(f"{mode}: worst interval of a neighbour {worst:.3f} s")
    others = {unit: told for unit, told in world.daemon.garages().items() if unit != sick.garage}
    bench.check(f"{mode}: theirs are known", all(g["unknown"] == 0 for g in others.values()),
                others)
    world.controllers.mode(SICK, "ok")
    back = until(lambda: all_known(world), 70)
    bench.check(f"{mode}: it comes back", back is not None, world.daemon.units())
    time.sleep(3)
    faults = world.picture_faults()
    bench.check(f"{mode}: the picture is right again", not faults, faults[:3])


ALL = [serial_bus]
