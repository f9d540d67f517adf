"""The wall while a crowd answers: how long it takes until the last of them knows that the answer is on the disk.

`Started` and `all_at_once` are what the tests use too.
"""

import asyncio
import json
import random
import re
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import row

ROOT = Path(__file__).parents[1]
MEMBERS = 200
REPEATS = 4
OPTIONS = ("1", "8", "64")              # of 02_attention/scale

# Tornado alone, which reads a body and says that it has: what a crowd costs before the wall does anything.
BARE = """
import asyncio
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

class Bare(RequestHandler):
    def post(self):
        self.set_status(204)

async def serve():
    sockets = bind_sockets(0, "127.0.0.1", backlog=1024)
    HTTPServer(Application([("/.*", Bare)], log_function=lambda handler: None)).add_sockets(sockets)
    print(f'join("http://127.0.0.1:{sockets[0].getsockname()[1]}/bare")\\nCtrl-C', flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


class Started:
    """A server in a process of its own, as `run.py wall` starts it in `folder`; or another program that says the same."""

    def __init__(self, folder: Path, *arguments: str, program: tuple[str, ...] = ("-m", "minigpt.classroom.wall")):
        self.process = subprocess.Popen([sys.executable, *program, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True,
                                        env=_environment())
        self.said = ""
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        found = re.search(r'join\("http://([\d.]+):(\d+)/([\w-]+)"\)', self.said)
        assert found, f"the server said {self.said!r} and ended"
        self.host, self.port, self.word = found[1], int(found[2]), found[3]
        self.teacher = next(iter(re.findall(r"#([a-z-]+)", self.said)), "")

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}/{self.word}"

    def kill(self) -> None:
        """As kill -9 does."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.kill()


def _environment() -> dict:
    import os
    return os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def answer(member: str, **other) -> dict:
    """An answer to 02_attention/scale, of a member."""
    return {"name": member, "id": secrets.token_hex(16), "notebook": "02_attention", "question": "scale",
            "answer": random.choice(OPTIONS), "mistake": "", "time": "2026-11-30T09:00:00+00:00"} | other


async def post(server: Started, body: dict | bytes, to: str = "answers", **headers: str) -> tuple[int, float]:
    """The status of one request on a connection of its own, 0 without an answer; and how many seconds it took."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Host": f"{server.host}:{server.port}", "Content-Type": "application/json", "Connection": "close",
               "Content-Length": str(len(body))} | {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(f"POST /{server.word}/{to} HTTP/1.1\r\n{head}\r\n".encode() + body)
        said = await reader.readline()
        writer.close()
        status = int(said.split()[1])
    except (OSError, IndexError, ValueError):
        status = 0
    return status, time.perf_counter() - began


def all_at_once(server: Started, bodies: list[dict]) -> tuple[list[int], list[float]]:
    """The status and the seconds of each, all sent at the same time."""
    async def crowd():
        return await asyncio.gather(*(post(server, body) for body in bodies))
    statuses, seconds = zip(*asyncio.run(crowd()), strict=True)
    return list(statuses), list(seconds)


def percentile(seconds: list[float], share: float = 0.95) -> float:
    return sorted(seconds)[int(share * len(seconds))]


def slowest(server: Started) -> float:
    """The 95th percentile when `MEMBERS` new members answer at once. Raises AssertionError where one is not taken."""
    statuses, seconds = all_at_once(server, [answer(secrets.token_hex(8)) for _ in range(MEMBERS)])
    assert set(statuses) == {204}, statuses
    return percentile(seconds)


def rows() -> list[dict]:
    """Seconds of the 95th percentile, of 0.2 allowed, the worst of four; the same against tornado alone, medians in turns."""
    with tempfile.TemporaryDirectory() as folder, Started(Path(folder), "--port", "0") as wall, \
            Started(Path(folder), program=("-c", BARE)) as bare:
        pairs = [(slowest(wall), slowest(bare)) for _ in range(REPEATS)]
        ours, peer = map(sorted, zip(*pairs, strict=True))
    what = f"{MEMBERS} members answer the wall at once: the 95th percentile"
    return [row(f"{what}, in seconds, of 0.2 allowed", ours[-1], 0.2, 1.0),
            row(f"{what}, against a tornado that keeps nothing", ours[len(ours) // 2], peer[len(peer) // 2], 4.0)]
