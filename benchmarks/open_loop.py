"""Requests that are sent when they are due, however long others take; and memory meanwhile."""

import asyncio
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import uvloop

# More connections than this are not opened: then requests wait for one, which counts as their time.
MOST_CONNECTIONS = 512
SECONDS_BETWEEN_LOOKS = 1.0
# Idle connections are closed, as whoever balances load does, before the server closes them.
SECONDS_IDLE = 30.0
Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Seen:
    """What became of the requests (seconds from when each was due), and memory in bytes."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)


def soak(port: int, bodies: Path, per_second: float, minutes: float, pid: int) -> dict[str, float]:
    """Send `per_second` requests for so many minutes; failures, latency, growth of memory."""
    lines = [line.encode() for line in bodies.read_text().splitlines()]
    seen = uvloop.run(_send(port, lines, per_second, minutes * 60, pid))
    tenth = max(1, len(seen.memory) // 10)
    after, end = statistics.median(seen.memory[tenth : 2 * tenth]), statistics.median(
        seen.memory[-tenth:]
    )  # fmt: skip
    for failure in sorted(set(seen.failures)):
        print(f"failed {seen.failures.count(failure)} times: {failure}")
    return {
        "per_second": per_second,
        "requests": len(seen.seconds) + len(seen.failures),
        "failed": len(seen.failures),
        "p50": float(np.percentile(seen.seconds, 50)),
        "p99": float(np.percentile(seen.seconds, 99)),
        "memory_after_a_tenth": after,
        "memory_at_the_end": end,
        "memory_peak": max(seen.memory),
    }


class Connections:
    """Open connections to a server, the one used last first."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: asyncio.LifoQueue[tuple[float, Line]] = asyncio.LifoQueue()
        self._opened = 0

    async def ask(self, body: bytes) -> bytes:
        """The status of one POST /predict. Waits where too many are open."""
        try:
            line = await self._take()
            status = await _ask(*line, body)
        except BaseException:
            self._opened -= 1
            raise
        self._idle.put_nowait((time.perf_counter(), line))
        return status

    async def _take(self) -> Line:
        if not self._idle.empty() or self._opened >= MOST_CONNECTIONS:
            since, line = await self._idle.get()
            if time.perf_counter() - since < SECONDS_IDLE:
                return line
            line[1].close()
            self._opened -= 1
        self._opened += 1
        return await asyncio.open_connection("127.0.0.1", self._port)


async def _send(
    port: int, bodies: list[bytes], per_second: float, seconds: float, pid: int
) -> Seen:
    seen = Seen()
    connections = Connections(port)
    tasks: set[asyncio.Task[None]] = set()

    async def one(body: bytes, due: float) -> None:
        try:
            status = await connections.ask(body)
        except (OSError, EOFError, ValueError) as error:
            seen.failures.append(f"{type(error).__name__}: {error}")
            return
        if status == b"200":
            seen.seconds.append(time.perf_counter() - due)
        else:
            seen.failures.append(f"status {status.decode()}")

    began = look = time.perf_counter()
    for number in range(int(per_second * seconds)):
        due = began + number / per_second
        while (now := time.perf_counter()) < due:
            await asyncio.sleep(due - now)
        task = asyncio.create_task(one(bodies[number % len(bodies)], due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if now >= look:
            seen.memory.append(resident_bytes(pid))
            look += SECONDS_BETWEEN_LOOKS
            await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return seen


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    """The status of one POST /predict on an open connection."""
    writer.write(
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(value) for name, _, value in (h.partition(b":") for h in head.lower().split(b"\r\n"))
        if name == b"content-length"
    )  # fmt: skip
    await reader.readexactly(length)
    return head.split(b" ", 2)[1]


def resident_bytes(pid: int) -> int:
    """The memory of a process and its children that is not shared with a file."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0
    for each in [str(pid), *children]:
        status = Path(f"/proc/{each}/status").read_text()
        total += int(status.partition("RssAnon:")[2].split()[0]) * 1024
    return total
