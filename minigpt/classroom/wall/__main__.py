"""Starts the wall: `python3 run.py wall [--lan] [--port N] [--new]`.

A lesson lies in the folder `wall/`, and goes on, with the same words, whenever this starts again;
`--new` puts it aside and begins the next.
"""

import argparse
import asyncio
import contextlib
import gc
import socket
import sqlite3
import sys
from datetime import UTC, datetime
from pathlib import Path

from tornado.netutil import bind_sockets

from minigpt.classroom.wall.server import Wall
from minigpt.classroom.wall.store import Store
from minigpt.classroom.wall.words import unguessable
from minigpt.console import say

FOLDER = Path.cwd() / "wall"
PORT = 8800
WAITING = 1024              # connections that may wait to be accepted: a class answers at once


def open_lesson(folder: Path, new: bool) -> Store:
    """The lesson in `folder`. A `new` one has new words, and the old one stays beside it."""
    folder.mkdir(exist_ok=True)
    path = folder / "lesson.sqlite"
    if new and path.exists():
        Store(path).close()                     # what its log still holds goes into the file
        began = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        path.replace(folder / f"lesson-{began:%Y-%m-%d-%H%M%S}.sqlite")
    store = Store(path)
    if not store.get("word"):
        store.set("word", unguessable(2))
        store.set("teacher", unguessable(4))
        store.commit()
    return store


def own_address() -> str:
    """The address of this computer in its network. No packet is sent for it."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))             # of no one: set aside for documents
        return probe.getsockname()[0]
    return "127.0.0.1"


def what_to_do(wall: Wall, here: str, lan: bool) -> str:
    at = wall.store.path
    return f"""
The wall is up: {len(wall.store.members)} members, {wall.store.answered()} answers so far, in {at}

  your page, to project     {here}/{wall.word}#{wall.teacher}
                            (its end is for you alone, and goes from the address bar at once)
  students run in a cell    join("{wall.address}")
                            {'' if lan else 'on this computer only: start with --lan for the room'}
Ctrl-C stops it. The same command goes on with this lesson; with --new it begins another.
"""


async def serve(store: Store, port: int, lan: bool) -> None:
    sockets = bind_sockets(port, None if lan else "127.0.0.1", backlog=WAITING)
    port = sockets[0].getsockname()[1]
    host = own_address() if lan else "127.0.0.1"
    wall = Wall(store, f"http://{host}:{port}/{store.get('word')}")
    gc.freeze()     # all that was imported: to look through it for garbage takes 0.2 s each time
    wall.listen_on(sockets)
    say(what_to_do(wall, f"http://127.0.0.1:{port}", lan))
    await asyncio.Event().wait()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run.py wall",
                                     description="The class's answers on one page.")
    parser.add_argument("--lan", action="store_true",
                        help="for all computers in this network; without it, for this one alone")
    parser.add_argument("--port", type=int, default=PORT, help=f"of the address ({PORT})")
    parser.add_argument("--new", action="store_true", help="begin a new lesson, with new words")
    given = parser.parse_args(arguments)
    if not 0 <= given.port <= 65_535:
        parser.error("--port must be a whole number from 0 (any that is free) to 65535, not "
                     f"{given.port}")
    try:
        store = open_lesson(FOLDER, given.new)
    except (OSError, sqlite3.Error) as error:
        print(f"The lesson in {FOLDER} can't be opened ({error}). Is another wall running? Can the "
              "folder be written to?", file=sys.stderr)
        return 1
    try:
        asyncio.run(serve(store, given.port, given.lan))
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        print(f"The port {given.port} can't be had ({error.strerror}): choose another with "
              "--port.", file=sys.stderr)
        return 1
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main())
