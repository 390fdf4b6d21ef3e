"""Zone controllers and a sign panel, served by pymodbus in a process of their own.

The child (`python controllers.py`) reads one JSON command a line on its standard input and
answers each with one line; [`Controllers`] is the other end. Truth lives in the child's
registers: a bay is a bit, a door counter two registers, a sign's face what was last written.
A unit can be told to fall silent, to be slow, to babble or to go away (`mode`). One that is
given as [port, address] speaks RTU on its port and answers at that address only. Times are
CLOCK_MONOTONIC seconds, the same in both processes.
"""

import asyncio
import json
import logging
import pathlib
import random
import subprocess
import sys
import threading
import time

FAULT_BASE, COUNTER_BASE, REGISTERS, PANEL_REGISTERS = 40, 100, 110, 1_200
LOG_MAX = 400_000  # sweeps and writes remembered; an hour of the reference site


class Controllers:
    """Starts the child and talks to it; safe to use from several threads."""

    def __init__(self, ports):
        spec = json.dumps({unit: port for unit, port in ports.items()})
        here = pathlib.Path(__file__)
        self.lock = threading.Lock()
        self.child = subprocess.Popen([sys.executable, str(here), spec], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.child.stdout.readline().strip() != "ready":
            raise RuntimeError("the controllers did not start")

    def ask(self, op, **args):
        with self.lock:
            self.child.stdin.write(json.dumps({"op": op, **args}) + "\n")
            self.child.stdin.flush()
            line = self.child.stdout.readline()
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(f"controllers: {answer['error']}")
        return answer

    def set(self, changes):
        """Sets bays: [(unit, point, 0 or 1)]. Returns when it was done."""
        return self.ask("set", changes=changes)

    def fault(self, unit, point, on):
        return self.ask("fault", unit=unit, point=point, on=on)

    def count(self, unit, counter, add=1):
        return self.ask("count", unit=unit, counter=counter, add=add)

    def mode(self, unit, mode, ms=0):
        """ok, silent, slow (by ms), babble, off."""
        return self.ask("mode", unit=unit, mode=mode, ms=ms)

    def truth(self):
        """Unit -> set of occupied points."""
        return {unit: set(points) for unit, points in self.ask("truth").items()}

    def registers(self, unit, address, count=1):
        return self.ask("read", unit=unit, address=address, count=count)

    def writes(self, since=0):
        """[(time, unit, address, [values])] from the since-th on."""
        return self.ask("writes", since=since)

    def shown(self, unit, address):
        """[(time, value)] of all writes that covered one register: one write may cover several."""
        return [(at, values[address - first]) for at, name, first, values in self.writes()
                if name == unit and first <= address < first + len(values)]

    def stats(self):
        """Unit -> {requests, sweeps: [time of each read of the first bay]}."""
        return self.ask("stats")

    def forget(self):
        """Starts the statistics anew."""
        return self.ask("forget")

    def stop(self):
        if self.child.poll() is None:
            self.child.stdin.close()
            try:
                self.child.wait(5)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


class Unit:
    """One simulated device behind one port."""

    def __init__(self, name, port, writes):
        self.name, self.writes = name, writes
        self.rtu = isinstance(port, list)
        self.port, self.address = port if self.rtu else (port, 1)
        self.mode, self.delay_s = "ok", 0.0
        self.registers = [0] * (PANEL_REGISTERS if name.startswith("panel") else REGISTERS)
        self.requests, self.sweeps, self.server = 0, [], None

    async def action(self, code, _start, address, count, current, values):
        """pymodbus calls this at each request, before it reads or stores `current`."""
        self.requests += 1
        if self.mode == "slow":
            await asyncio.sleep(self.delay_s)
        if values is not None:
            self.note_write(address, values)
            return None
        if address == 0 and len(self.sweeps) < LOG_MAX:
            self.sweeps.append(time.monotonic())
        current[address:address + count] = self.registers[address:address + count]
        return None

    def note_write(self, address, values):
        values = [int(value) for value in values]
        self.registers[address:address + len(values)] = values
        if len(self.writes) < LOG_MAX:
            self.writes.append((time.monotonic(), self.name, address, values))

    def packet(self, sending, data):
        """What goes over the wire: nothing when silent, garbage when babbling."""
        if not sending or self.mode in ("ok", "slow"):
            return data
        return b"" if self.mode == "silent" else random.randbytes(random.randint(1, 300))

    async def listen(self):
        from pymodbus import FramerType
        from pymodbus.server import ModbusTcpServer
        from pymodbus.simulator import DataType, SimData, SimDevice

        data = SimData(0, values=list(self.registers), datatype=DataType.REGISTERS)
        device = SimDevice(id=self.address, simdata=[data], action=self.action)
        framer = FramerType.RTU if self.rtu else FramerType.SOCKET
        self.server = ModbusTcpServer(device, address=("127.0.0.1", self.port), framer=framer,
                                      trace_packet=self.packet)
        await self.server.serve_forever(background=True)

    async def set_mode(self, mode, ms):
        if mode == "off" and self.server:
            await self.server.shutdown()
            self.server = None
        if mode != "off" and not self.server:
            await self.listen()
        self.mode, self.delay_s = mode, ms / 1000

    def set_bit(self, base, point, on):
        register, bit = base + point // 16, 1 << (point % 16)
        self.registers[register] = self.registers[register] & ~bit | (bit if on else 0)

    def add(self, counter, add):
        at = COUNTER_BASE + 2 * counter
        value = ((self.registers[at] << 16) + self.registers[at + 1] + add) % 2**32
        self.registers[at:at + 2] = [value >> 16, value & 0xFFFF]

    def occupied(self):
        return [point for point in range(FAULT_BASE * 16)
                if self.registers[point // 16] >> (point % 16) & 1]


class Child:
    """Serves all units and the commands."""

    def __init__(self, ports):
        self.writes = []
        self.units = {name: Unit(name, port, self.writes) for name, port in ports.items()}

    async def run(self):
        for unit in self.units.values():
            await unit.listen()
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=2**24)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            try:
                answer = await self.carry_out(json.loads(line))
            except Exception as error:  # told to whoever asked
                answer = {"error": repr(error)}
            print(json.dumps(answer), flush=True)

    async def carry_out(self, order):
        op = order.pop("op")
        if op == "set":
            for unit, point, on in order["changes"]:
                self.units[unit].set_bit(0, point, on)
        elif op == "fault":
            self.units[order["unit"]].set_bit(FAULT_BASE, order["point"], order["on"])
        elif op == "count":
            self.units[order["unit"]].add(order["counter"], order["add"])
        elif op == "mode":
            await self.units[order["unit"]].set_mode(order["mode"], order["ms"])
        elif op == "forget":
            self.writes.clear()
            for unit in self.units.values():
                unit.requests, unit.sweeps = 0, []
        else:
            return self.tell(op, order)
        return time.monotonic()

    def tell(self, op, order):
        if op == "truth":
            return {name: unit.occupied() for name, unit in self.units.items()
                    if not name.startswith("panel")}
        if op == "read":
            at = order["address"]
            return self.units[order["unit"]].registers[at:at + order["count"]]
        if op == "writes":
            return self.writes[order["since"]:]
        if op == "stats":
            return {name: {"requests": unit.requests, "sweeps": unit.sweeps}
                    for name, unit in self.units.items()}
        raise ValueError(f"no command {op}")


if __name__ == "__main__":
    # A peer that hangs up on a slow or babbling unit is what the tests ask for.
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
    asyncio.run(Child(json.loads(sys.argv[1])).run())
