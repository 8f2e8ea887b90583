"""A Modbus server by pymodbus, over TCP or a serial line, that a test drives by lines on standard input.

    modbus_server.py tcp PORT UNITS
    modbus_server.py rtu SERIAL_PORT UNITS [BAUD]
    modbus_server.py rtu-over-tcp PORT UNITS

UNITS is JSON: {"1": {"holding": {"0": [1, 2]}, "input": {…}, "coils": {"5": [true]}, "discrete": {…}}}, each
block a map from address to consecutive values. A unit that is not named stays silent, as on a real line.

Commands, each answered by a line `ok …` or `error …`:

    set UNIT BLOCK ADDRESS VALUE…    changes what stands there
    get UNIT BLOCK ADDRESS COUNT     answers `ok VALUE…`
    mute UNIT, unmute UNIT           a muted unit answers nothing and executes nothing
    exception UNIT CODE              answers every request with that exception; 0 ends it
    delay UNIT MILLISECONDS          answers that much later; 0 ends it
    count UNIT                       answers `ok N`, the requests for that unit so far, unanswered ones too
"""

import asyncio
import collections
import json
import sys

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

# The function code by which pymodbus reaches each block.
FUNCTIONS = {"coils": 15, "discrete": 2, "holding": 16, "input": 4}


class Unit:
    """What the test asked of one unit."""

    def __init__(self):
        self.muted = False
        self.exception = 0
        self.delay = 0.0
        self.requests = 0
        self.driven_by_test = False

    async def act(self, function, start, address, count, registers, values):
        if self.driven_by_test:
            return None
        if self.delay:
            await asyncio.sleep(self.delay)
        return ExcCodes(self.exception) if self.exception else None


def block(values, bits):
    datatype = DataType.BITS if bits else DataType.REGISTERS
    if not values:
        # pymodbus wants a block to hold something; what is INVALID answers with an exception.
        return [SimData(65520, values=[False] * 16, datatype=datatype) if bits else SimData(65535)]
    return [
        SimData(int(address, 0), values=[bool(one) if bits else int(one) & 0xFFFF for one in run], datatype=datatype)
        for address, run in sorted(values.items(), key=lambda entry: int(entry[0], 0))
    ]


def device(number, blocks, unit):
    unknown = set(blocks) - set(FUNCTIONS)
    if unknown:
        raise ValueError(f"unknown blocks {sorted(unknown)}")
    parts = tuple(
        block(blocks.get(name, {}), bits=name in ("coils", "discrete"))
        for name in ("coils", "discrete", "holding", "input")
    )
    return SimDevice(number, simdata=parts, action=unit.act)


def say(line):
    print(line, flush=True)


async def obey(server, units, words):
    command, unit_id = words[0], int(words[1])
    unit = units[unit_id]
    if command == "set":
        name, address, values = words[2], int(words[3], 0), [int(value, 0) for value in words[4:]]
        values = [bool(one) for one in values] if name in ("coils", "discrete") else [one & 0xFFFF for one in values]
        unit.driven_by_test = True
        mistake = await server.context.async_setValues(unit_id, FUNCTIONS[name], address, values)
        unit.driven_by_test = False
        return f"error {mistake!r}" if mistake else "ok"
    if command == "get":
        unit.driven_by_test = True
        values = await server.context.async_getValues(unit_id, FUNCTIONS[words[2]], int(words[3], 0), int(words[4]))
        unit.driven_by_test = False
        return f"error {values!r}" if isinstance(values, ExcCodes) else "ok " + " ".join(str(int(one)) for one in values)
    if command in ("mute", "unmute"):
        unit.muted = command == "mute"
    elif command == "exception":
        unit.exception = int(words[2], 0)
    elif command == "delay":
        unit.delay = int(words[2]) / 1000
    elif command == "count":
        return f"ok {unit.requests}"
    else:
        return f"error unknown command {command}"
    return "ok"


async def main():
    transport, port, described = sys.argv[1:4]
    described = json.loads(described)
    units = collections.defaultdict(Unit)
    devices = [device(int(number), blocks, units[int(number)]) for number, blocks in described.items()]

    def trace(sending, pdu):
        if sending:
            return pdu
        unit = units[pdu.dev_id]
        unit.requests += 1
        # pymodbus drops a request for which this gives nothing.
        return None if unit.muted or str(pdu.dev_id) not in described else pdu

    if transport == "rtu":
        baud = int(sys.argv[4]) if len(sys.argv) > 4 else 9600
        server = ModbusSerialServer(devices, framer=FramerType.RTU, port=port, baudrate=baud, trace_pdu=trace)
    else:
        framer = {"tcp": FramerType.SOCKET, "rtu-over-tcp": FramerType.RTU}[transport]
        server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", int(port)), trace_pdu=trace)
    await server.serve_forever(background=True)
    say("ready")

    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        words = line.decode().split()
        if not words:
            continue
        try:
            say(await obey(server, units, words))
        except Exception as error:  # the test reads what was wrong
            say(f"error {type(error).__name__}: {error}")


asyncio.run(main())
