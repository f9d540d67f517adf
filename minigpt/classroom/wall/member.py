"""The student's side of the wall: `join` sends what is answered, until `leave`.

It goes out from a thread of its own, one answer after the other, and what can't be sent is tried
again later. So no cell waits for the wall, whatever the wall does. Of what comes back only the
first line is read. Of all that a notebook imports this file alone reaches a network, and only once
`join` is called.
"""

import contextlib
import html
import json
import queue
import random
import re
import secrets
import socket
import threading
import time
from datetime import UTC, datetime

from IPython.display import display

from minigpt import arguments
from minigpt.arguments import shown, takes
from minigpt.classroom import prediction, questions
from minigpt.classroom.checks import framework
from minigpt.classroom.widgets import Page

PATIENCE = 5.0              # seconds that the wall has for one answer, all of it
FIRST_PAUSE = 1.0           # seconds before it is tried again; the next pause is twice as long
LONGEST_PAUSE = 10.0
SPACING = 0.25              # seconds between two answers: the wall takes five a second
GREETING = 0.5              # seconds that `join` waits to say whether the wall is there
KEPT = 10_000               # answers that wait for a wall that is gone; later ones are lost
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
ADDRESS = re.compile(r"http://(\[[0-9a-f:.]+\]|[a-z0-9._-]+):(\d{1,5})/([a-z-]+)/?", re.I | re.A)

SENT = ("For each prediction that you answer and each exercise that you check, this is sent: the "
        "notebook, the question, your answer or the name of your mistake, the time, a random name "
        "for this kernel ({name}), and a random number, so that nothing counts twice. No name, no "
        "code and no address is stored. leave() stops it.")
CONNECTED = "✓ The wall hears you."
AWAY = "The wall can't be reached just now. Go on: what you answer waits here and is sent later."
GONE = "This wall is closed, or has other words now. Nothing more is sent."
LEFT = "You have left the wall. Nothing more is sent."

_name = secrets.token_hex(8)            # of this kernel, and of nobody
_joined: "Member | None" = None


def wall_address(name: str, value) -> tuple[str, int, str]:
    """The host, the port and the words of a wall's address."""
    found = ADDRESS.fullmatch(arguments.text(name, value).strip())
    if not found or not 0 < int(found[2]) < 65_536:
        raise ValueError(f"{name} must be the one that the wall shows, such as "
                         f"'http://192.168.1.20:8800/tamiro-veluna', not {shown(value)}")
    return found[1].strip("[]"), int(found[2]), found[3].lower()


@takes(address=wall_address)
def join(address) -> None:
    """Joins the wall at this address: what you answer from now on counts there, without a name.

    It says what is sent. Where the wall can't be reached, your answers wait, and no cell waits for
    them. `leave()` stops it. Raises ValueError where the address is none, or no wall is there.
    """
    global _joined
    if _joined and _joined.address == address and not _joined.stopped.is_set():
        _joined.show_again()
        return
    _stop()
    member = Member(*address)
    if member.greeted.wait(GREETING) and member.state == GONE:
        raise ValueError(f"address must end with the words that the wall shows; at {address[0]}:"
                         f"{address[1]} there is no wall {address[2]!r}")
    _joined = member
    prediction.listeners.append(member.hear_answer)
    framework.listeners.append(member.hear_check)
    member.show_again()


def leave() -> None:
    """Leaves the wall: nothing more is sent, and what still waited is forgotten."""
    print(LEFT if _joined else "You have not joined a wall.")
    _stop()


def _stop() -> None:
    global _joined
    if _joined:
        with contextlib.suppress(ValueError):
            prediction.listeners.remove(_joined.hear_answer)
        with contextlib.suppress(ValueError):
            framework.listeners.remove(_joined.hear_check)
        _joined.stop()
    _joined = None


class Member:
    """One kernel at one wall, and the thread that sends. `state` says in a sentence how it goes."""

    def __init__(self, host: str, port: int, word: str):
        self.address = (host, port, word)
        self.state, self.line, self.lock = AWAY, None, threading.Lock()
        self.waiting: queue.Queue = queue.Queue(KEPT)
        self.greeted, self.stopped = threading.Event(), threading.Event()
        threading.Thread(target=self._send_all, name="minigpt-wall", daemon=True).start()

    # ---- in the cell that asks: it only puts something down

    def hear_answer(self, row: dict) -> None:
        self._put(notebook=row["notebook"], question=row["question"], answer=row["answer"])

    def hear_check(self, check: str, said: str) -> None:
        self._put(notebook=prediction.this_notebook(), question=check, said=said)

    def _put(self, **event) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(queue.Full):
            self.waiting.put_nowait(event | {"time": now})

    def stop(self) -> None:
        self.stopped.set()
        self._put()                     # wakes the thread
        self._say(LEFT)

    def show_again(self) -> None:
        with self.lock:
            self.line = display(self._page(), display_id=True)

    # ---- in the thread

    def _send_all(self) -> None:
        self._deliver("members", {"name": _name})
        while not self.stopped.is_set():
            event = self.waiting.get()
            with contextlib.suppress(Exception):        # it is not the student's business
                body = _body(event)
                if body is not None:
                    self._deliver("answers", body)
                    self.stopped.wait(SPACING)

    def _deliver(self, to: str, body: dict) -> None:
        """Returns once the wall has it, or says that it will never take it."""
        pause = FIRST_PAUSE
        while not self.stopped.is_set():
            status = self._post(to, json.dumps(body).encode())
            if self.stopped.is_set():
                return
            if status == 404:
                self.stopped.set()
                self._say(GONE)
            elif 200 <= status < 300 or status in (400, 413):
                self._say(CONNECTED)
                return
            else:
                self._say(AWAY)
                self.stopped.wait(pause * random.uniform(0.5, 1.0))     # not all at the same time
                pause = min(2 * pause, LONGEST_PAUSE)

    def _post(self, to: str, body: bytes) -> int:
        """The status of the wall's answer, 0 without one.

        What else it says, and how much, where it points to, and how long it goes on, is not read.
        """
        host, port, word = self.address
        name = f"[{host}]" if ":" in host else host
        head = (f"POST /{word}/{to} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
        end, said = time.monotonic() + PATIENCE, b""
        try:
            with socket.create_connection((host, port), PATIENCE) as line:
                line.sendall(head.encode() + body)
                while len(said) < len("HTTP/1.1 204 "):
                    line.settimeout(max(0.001, end - time.monotonic()))
                    piece = line.recv(64)
                    if not piece:
                        break
                    said += piece
        except (OSError, ValueError):       # ValueError: a host that no name can be
            return 0
        found = STATUS.match(said)
        return int(found[1]) if found else 0

    def _say(self, state: str) -> None:
        """Changes the line under the cell that joined, where there is something new to say."""
        with self.lock, contextlib.suppress(Exception):
            new, self.state = state != self.state, state
            self.greeted.set()
            if new and self.line is not None:
                self.line.update(self._page())

    def _page(self) -> Page:
        sent = SENT.format(name=_name)
        return Page(f'<div class="minigpt-note"><p>{html.escape(sent)}</p>'
                    f'<p role="status"><b>{html.escape(self.state)}</b></p></div>',
                    f"{sent}\n{self.state}")


def _body(event: dict) -> dict | None:
    """What is sent of an event: words that were in the package before, and numbers."""
    from minigpt.classroom.wall import exercises

    body = {"name": _name, "id": secrets.token_hex(16), "mistake": "", **event}
    if "said" in body:
        said = body.pop("said")
        body["answer"], body["mistake"] = ("", exercises.mistake(said)) if said else ("passed", "")
        if body["notebook"] not in exercises.notebooks():       # it may bear somebody's name
            body["notebook"] = exercises.bank()[body["question"]].notebook
        return None if body["mistake"] is None else body
    known = f"{body.get('notebook')}/{body.get('question')}" in questions.bank()
    return body if known else None
