"""The teacher's side: a small web server that takes answers and shows what has come of them.

    GET  /WORD               the page: everybody may open it
    GET  /WORD/events        what it shows, whenever that changes (server-sent events)
    POST /WORD/members       {"name"}: somebody has joined
    POST /WORD/answers       {"name", "id", "notebook", "question", "answer", "mistake", "time"}
    POST /WORD/teacher       {"do", "question"}: reveal, hide, pin, follow, reveal all
    POST /WORD/answers.csv   all answers

The last two want the teacher's word in the header X-Teacher. To all others nobody needs to be
known: the histogram of a question leaves this program only once it has been revealed, whoever asks.
Answers are acknowledged when they are on the disk. No address is kept or logged.
"""

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import json
import logging
import re
import socket
import sqlite3
from collections import defaultdict, deque
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from time import monotonic

from tornado.httpserver import HTTPServer
from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler, stream_request_body

from minigpt.arguments import shown
from minigpt.classroom.questions import Question, bank
from minigpt.classroom.wall import exercises
from minigpt.classroom.wall.exercises import Exercise
from minigpt.classroom.wall.store import BOTH, EXERCISES, PASSED, QUESTIONS, Store, asked
from minigpt.page import part as part_of_the_page

LARGEST = 4096              # bytes of a body
SWALLOWED = 16_000_000      # bytes of a larger one that are read, so that the sentence arrives
MEMBERS = 1000
RATE = 5                    # answers a second from one member
PAGES = 200                 # walls that are open at once
GATHER = 0.005              # seconds in which answers come together, to be written as one
PAUSE = 0.2                 # seconds between two pictures of the wall
ALIVE = 15.0                # seconds after which a page that nothing happened to hears so
PATIENCE = 20.0             # seconds that a request may take to come

MEMBER, ID = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9a-f]{32}")
FIELDS = ("name", "id", "notebook", "question", "answer", "mistake", "time")
FOLDER = Path(__file__).parent


class Refusal(HTTPError):
    """An answer that says in a sentence what is wrong with the request."""

    def __init__(self, status: int, sentence: str):
        super().__init__(status)
        self.sentence = sentence


class Wall(Application):
    """A lesson on the web. `address` is where students find it, as `join` takes it."""

    def __init__(self, store: Store, address: str = ""):
        self.store, self.address = store, address
        self.word, self.teacher = store.get("word"), store.get("teacher")
        exercises.names()                           # read now, and not while somebody waits
        self.recent: dict[str, deque] = defaultdict(lambda: deque(maxlen=RATE))
        self.pages: set[Events] = set()
        self.names = {"localhost", socket.gethostname().lower()}
        self.names |= {f"{name}.local" for name in self.names}
        self._commit: asyncio.Future | None = None
        self._drawing: asyncio.TimerHandle | None = None
        path = r"/([^/]+)"
        super().__init__(
            [(path + "/?", Page), (path + "/events", Events), (path + "/members", Members),
             (path + "/answers", Answers), (path + "/teacher", Teacher),
             (path + r"/answers\.csv", Table)],
            default_handler_class=Nothing, log_function=lambda handler: None)

    def listen_on(self, sockets) -> HTTPServer:
        server = HTTPServer(self, max_body_size=SWALLOWED, max_header_size=16_384,
                            body_timeout=PATIENCE, idle_connection_timeout=PATIENCE)
        server.add_sockets(sockets)
        return server

    # ---- writing

    def admit(self, member: str) -> None:
        if member not in self.store.members and len(self.store.members) >= MEMBERS:
            raise Refusal(403, f"This wall is full: it has {MEMBERS:,} members.")
        self.store.admit(member)

    def pace(self, member: str) -> None:
        now = monotonic()
        if len(self.recent) > 2 * MEMBERS:          # somebody invents names
            for name in [name for name, times in self.recent.items() if now - times[-1] > 1]:
                del self.recent[name]
        recent = self.recent[member]
        if len(recent) == RATE and now - recent[0] < 1:
            raise Refusal(429, f"Not more than {RATE} answers a second, please.")
        recent.append(now)

    async def kept(self) -> None:
        """Returns when all that was written is on the disk.

        Those who wait at the same time share one commit.
        """
        if self._commit is None:
            loop = asyncio.get_running_loop()
            self._commit = loop.create_future()
            loop.call_later(GATHER, self._write)
        await self._commit
        self.changed()

    def _write(self) -> None:
        waiting, self._commit = self._commit, None
        try:
            self.store.commit()
        except sqlite3.Error as error:
            waiting.set_exception(Refusal(503, f"The wall cannot write its file: {error}."))
        else:
            waiting.set_result(None)

    # ---- showing

    def changed(self) -> None:
        """All pages are told, soon and once."""
        if self._drawing is None:
            loop = asyncio.get_running_loop()
            self._drawing = loop.call_later(PAUSE, self._draw)

    def _draw(self) -> None:
        self._drawing = None
        if self.pages:
            picture = self.picture()
            for page in list(self.pages):
                page.show(picture)

    def picture(self) -> str:
        """All that the wall shows, as JSON."""
        pinned = bank().get(self.store.get("pinned"))
        question = pinned or self.store.of_the_moment(QUESTIONS)
        exercise = self.store.of_the_moment(EXERCISES)
        at = pinned or self.store.of_the_moment(BOTH)
        return json.dumps({
            "address": self.address, "members": len(self.store.members), "pinned": bool(pinned),
            "at": "exercise" if isinstance(at, Exercise) else "question",
            "question": question and self.store.question(question),
            "exercise": exercise and self.store.exercise(exercise)}, ensure_ascii=False)


class Handler(RequestHandler):
    """What all have in common: who may ask, and how a refusal is said."""

    @property
    def wall(self) -> Wall:
        return self.application

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")

    def prepare(self) -> None:
        self._look_at_host()
        if not _same(self.path_args[0], self.wall.word):
            raise Refusal(404, "There is no wall here: the address ends with the words of the "
                               "lesson, and these are none.")

    def _look_at_host(self) -> None:
        """Another site's page may bear a name that leads here; an address can't be borrowed so."""
        host = self.request.host.lower()
        name = re.sub(r":\d*$", "", host)
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            if name not in self.wall.names:
                raise Refusal(403, "The wall answers to its own address alone.") from None
        origin = self.request.headers.get("Origin")
        if origin is not None and origin.lower() != f"http://{host}":
            raise Refusal(403, "The wall takes nothing from the pages of others.")

    def look_at_teacher(self) -> None:
        if not _same(self.request.headers.get("X-Teacher", ""), self.wall.teacher):
            raise Refusal(403, "This is for the teacher: the word stands in the terminal.")

    def write_error(self, status_code: int, **known) -> None:
        error = known.get("exc_info", (None, None))[1]
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(f"{getattr(error, 'sentence', self._reason)}\n")

    def log_exception(self, kind, error, trace) -> None:
        """What we did not foresee, without the address that tornado would write beside it."""
        if not isinstance(error, (HTTPError, StreamClosedError)):
            logging.getLogger("minigpt.wall").error("The wall failed",
                                                    exc_info=(kind, error, trace))


class Nothing(Handler):
    """What lies at no address of ours."""

    def prepare(self) -> None:
        raise Refusal(404, "There is nothing here.")


class Page(Handler):
    """The page, of which style and script are a part: it needs nothing else, and may load nothing
    else."""

    def get(self, word: str) -> None:
        style = part_of_the_page("colours.css") + _part("wall.css")
        script = _part("wall.js")
        self.set_header("Content-Security-Policy", (
            f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"))
        questions = json.dumps([[question.name, question.text] for question in bank().values()])
        self.finish(Template(_part("wall.html")).substitute(
            style=style, script=script, questions=questions.replace("<", "\\u003c")))


class Events(Handler):
    """What the wall shows, as long as somebody looks."""

    async def get(self, word: str) -> None:
        if len(self.wall.pages) >= PAGES:
            raise Refusal(503, f"The wall is open on {PAGES} screens already.")
        self.closed = asyncio.Event()
        self.set_header("Content-Type", "text/event-stream")
        self.wall.pages.add(self)
        try:
            self.show(self.wall.picture())
            while not self.closed.is_set():
                try:
                    await asyncio.wait_for(self.closed.wait(), ALIVE)
                except TimeoutError:
                    self._send(": still here\n\n")
        finally:
            self.wall.pages.discard(self)

    def on_connection_close(self) -> None:
        self.closed.set()

    def show(self, picture: str) -> None:
        self._send(f"retry: 1000\ndata: {picture}\n\n")

    def _send(self, event: str) -> None:
        """Whoever does not read the last one gets no more, and comes back for a new one."""
        stream = self.request.connection.stream
        if stream is None or stream.closed() or stream.writing():
            return self.closed.set()
        self.write(event)
        self.flush()


@stream_request_body
class Posted(Handler):
    """Takes JSON, and not more of it than `LARGEST`."""

    def prepare(self) -> None:
        self.body = b""
        super().prepare()
        if self.request.method == "POST":
            kind = self.request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise Refusal(415, "A request here is application/json.")

    def data_received(self, chunk: bytes) -> None:
        """The rest of a body that is too large is read and forgotten: who still sends hears no
        refusal."""
        self.body = (self.body + chunk)[:LARGEST + 1]

    def asked(self, fields: tuple[str, ...]) -> dict[str, str]:
        """The body: an object with these fields and no other, each of them text."""
        if len(self.body) > LARGEST:
            raise Refusal(413, f"A request has {LARGEST:,} bytes at most.")
        try:
            body = json.loads(self.body.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Refusal(400, "The body is no JSON.") from None
        if not (isinstance(body, dict) and body.keys() == set(fields)
                and all(isinstance(value, str) for value in body.values())):
            raise Refusal(400, f"The body must have the fields {', '.join(fields)}, each a text, "
                               "and no other.")
        return body


class Members(Posted):
    """Somebody has joined."""

    async def post(self, word: str) -> None:
        body = self.asked(("name",))
        _match("name", body["name"], MEMBER)
        self.wall.admit(body["name"])
        await self.wall.kept()
        self.set_status(204)


class Answers(Posted):
    """An answer to a question, or how an exercise was checked."""

    async def post(self, word: str) -> None:
        body = self.asked(FIELDS)
        _match("name", body["name"], MEMBER)
        _match("id", body["id"], ID)
        wanted = asked(body["notebook"], body["question"])
        if wanted is None:
            raise Refusal(400, f"There is no question {shown(body['question'])} in the notebook "
                               f"{shown(body['notebook'])}.")
        self.wall.pace(body["name"])
        answer, right = _judged(wanted, body["answer"], body["mistake"])
        when = _time(body["time"])
        self.wall.admit(body["name"])
        self.wall.store.add(body["id"], body["name"], wanted, answer, right, when)
        await self.wall.kept()
        self.set_status(204)


class Teacher(Posted):
    """What the teacher's buttons do."""

    def prepare(self) -> None:
        super().prepare()
        self.look_at_teacher()

    async def post(self, word: str) -> None:
        body, store = self.asked(("do", "question")), self.wall.store
        question = bank().get(body["question"])
        match body["do"], question:
            case "greet", None:
                pass
            case "reveal" | "hide", Question():
                store.reveal(question, shown=body["do"] == "reveal")
            case "reveal all", None:
                store.reveal_all()
            case "pin", Question():
                store.set("pinned", question.name)
            case "follow", None:
                store.set("pinned", "")
            case _:
                raise Refusal(400, "do must be reveal, hide or pin, with a question that there is; "
                                   f"or reveal all, follow or greet; not {shown(body['do'])}.")
        await self.wall.kept()
        self.set_status(204)


class Table(Posted):
    """All answers, for a spreadsheet."""

    def prepare(self) -> None:
        super().prepare()
        self.look_at_teacher()

    def post(self, word: str) -> None:
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.finish(self.wall.store.table())


def _judged(wanted, answer: str, mistake: str) -> tuple[str, bool]:
    """What is kept of an answer, and whether it is right. Nothing that is kept is free text."""
    if isinstance(wanted, Question):
        if mistake:
            raise Refusal(400, "A question has answers, and no mistakes.")
        try:
            return answer.strip(), wanted.judge(answer).right
        except ValueError:
            raise Refusal(400, f"{shown(answer)} is no answer to {wanted.name}.") from None
    if answer == PASSED and not mistake:
        return PASSED, True
    if not answer and mistake in exercises.names():
        return mistake, False
    raise Refusal(400, f"An exercise is answered with {PASSED!r}, or with a mistake that its check "
                       "knows.")


def _time(text: str) -> str:
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="seconds")
    except (ValueError, OverflowError):
        raise Refusal(400, f"time must be a time as in 2026-11-30T09:00:00+00:00, not "
                           f"{shown(text)}.") from None


def _match(field: str, value: str, pattern: re.Pattern) -> None:
    if not pattern.fullmatch(value):
        raise Refusal(400, f"{field} must match {pattern.pattern}, not {shown(value)}.")


def _same(given: str, wanted: str) -> bool:
    """Takes as long wherever the two differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _part(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
