"""The wall: what it takes and shows, what it keeps to itself, what it survives; and that no cell ever waits for it."""

import asyncio
import contextlib
import csv
import http.client
import io
import json
import os
import random
import re
import secrets
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

import pytest
from test_offline import NO_NETWORK

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import wall as crowd  # noqa: E402
from minigpt.classroom import Mistake, check_causal_mask, export_predictions, predict, prediction  # noqa: E402
from minigpt.classroom.checks import framework  # noqa: E402
from minigpt.classroom.questions import bank  # noqa: E402
from minigpt.classroom.wall import __main__ as command  # noqa: E402
from minigpt.classroom.wall import exercises, member, server, words  # noqa: E402

SCALE = "02_attention/scale"
ANN, BEN, CAT = (digit * 16 for digit in "abc")             # random names, so that they are easy to tell apart


class Running:
    """A wall in a thread of this process, on the lesson in `folder`."""

    def __init__(self, folder: Path, port: int = 0, new: bool = False):
        self.up, self.failure = threading.Event(), None
        self.thread = threading.Thread(target=lambda: asyncio.run(self.serve(folder, port, new)), daemon=True)
        self.thread.start()
        assert self.up.wait(60)

    async def serve(self, folder, port, new):
        store = command.open_lesson(folder, new)
        sockets = command.bind_sockets(port, "127.0.0.1", backlog=1024)
        self.host, self.port = "127.0.0.1", sockets[0].getsockname()[1]
        self.wall = server.Wall(store, "")
        self.word, self.teacher = self.wall.word, self.wall.teacher
        self.wall.address = self.address
        listening = self.wall.listen_on(sockets)
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        self.up.set()
        await self.over.wait()
        listening.stop()
        await listening.close_all_connections()
        store.close()

    @property
    def address(self):
        return f"http://{self.host}:{self.port}/{self.word}"

    def stop(self):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join(60)

    def ask(self, path="", body=None, method=None, **headers):
        """(status, text) of a request; a body that is no bytes is sent as JSON."""
        line = http.client.HTTPConnection(self.host, self.port, timeout=60)
        if body is not None:
            headers = {"Content_Type": "application/json"} | headers
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            line.request(method or ("GET" if body is None else "POST"), f"/{self.word}{path}", body,
                         {name.replace("_", "-"): value for name, value in headers.items()})
            answer = line.getresponse()
            return answer.status, answer.read().decode()
        finally:
            line.close()

    def answer(self, who=ANN, **other):
        return self.ask("/answers", crowd.answer(who, **other))

    def do(self, what, question=""):
        return self.ask("/teacher", {"do": what, "question": question}, X_Teacher=self.teacher)

    def picture(self):
        """What the wall shows: the first event, and nothing is waited for."""
        with socket.create_connection((self.host, self.port), 60) as line:
            line.sendall(f"GET /{self.word}/events HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
            said = b""
            while not (found := re.search(rb"data: (.*)\n\n", said)):
                said += line.recv(65_536)
        return json.loads(found[1])

    def table(self):
        status, text = self.ask("/answers.csv", {}, X_Teacher=self.teacher)
        assert status == 200
        return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def wall(tmp_path):
    running = Running(tmp_path / "wall")
    yield running
    running.stop()


# ---- what it shows -------------------------------------------------------------------------------------------------------

def test_it_counts_who_has_answered_and_shows_the_histogram_with_the_reasons_once_it_is_revealed(wall):
    for who, answer in ((ANN, "8"), (BEN, "64"), (CAT, "64")):
        assert wall.answer(who, answer=answer) == (204, "")
    question = wall.picture()["question"]
    assert (question["name"], question["answered"], question["revealed"], question["bars"]) == (SCALE, 3, False, [])
    assert question["options"] == ["1", "8", "64"] and question["text"] == bank()[SCALE].text
    assert wall.do("reveal", SCALE) == (204, "")
    bars = wall.picture()["question"]["bars"]
    assert [(bar["answer"], bar["count"], bar["right"]) for bar in bars] == [("1", 0, False), ("8", 1, True), ("64", 2, False)]
    assert bars[2]["why"] == bank()[SCALE].wrong["64"] and bars[1]["why"] == bank()[SCALE].why
    assert wall.do("hide", SCALE) == (204, "") and wall.picture()["question"]["bars"] == []


def test_what_somebody_answers_first_counts_and_who_tries_again_counts_once(wall):
    for answer in ("64", "8", "8"):
        wall.answer(answer=answer)
    wall.do("reveal", SCALE)
    question = wall.picture()["question"]
    assert question["answered"] == 1 and [bar["count"] for bar in question["bars"]] == [0, 0, 1]
    assert [row["tries"] for row in wall.table()] == ["1", "2", "3"]


def test_an_answer_that_comes_twice_is_one_answer(wall):
    body = crowd.answer(ANN)
    assert [wall.ask("/answers", body)[0] for _ in range(3)] == [204] * 3
    assert len(wall.table()) == 1


def test_numbers_that_mean_the_same_are_one_bar_and_the_rare_ones_are_one_too(wall):
    answers = ["0.67", "2/3", "2,0", "2", "0.5", "11", "12", "13", "14", "15", "16"]
    for answer in answers:
        assert wall.answer(secrets.token_hex(8), question="average", answer=answer)[0] == 204
    wall.do("reveal", "02_attention/average")
    bars = {bar["answer"]: bar["count"] for bar in wall.picture()["question"]["bars"]}
    assert bars["0.67"] == 2 and bars["2"] == 2 and bars["other numbers"] > 1 and sum(bars.values()) == len(answers)


def test_it_shows_who_has_passed_an_exercise_and_which_mistakes_were_made_how_often(wall):
    mistakes = ("Your mask hides nothing", "Your mask hides nothing", "Your mask hides everything")
    for who, mistake in zip((ANN, ANN, BEN), mistakes):
        assert wall.answer(who, question="check_causal_mask", answer="", mistake=mistake)[0] == 204
    wall.answer(ANN, question="check_causal_mask", answer="passed")
    exercise = wall.picture()["exercise"]
    assert (exercise["title"], exercise["tried"], exercise["passed"]) == ("causal mask", 2, 1)
    assert [(each["mistake"], each["times"], each["members"]) for each in exercise["mistakes"]] == [
        ("Your mask hides nothing", 2, 1), ("Your mask hides everything", 1, 1)]


def test_it_follows_most_of_the_class_until_a_question_is_pinned(wall):
    for who in (ANN, BEN, CAT):
        wall.answer(who)
    wall.answer(ANN, question="score", answer="3")
    assert wall.picture()["question"]["name"] == SCALE
    wall.answer(BEN, question="score", answer="3")
    assert wall.picture()["question"]["name"] == "02_attention/score"
    wall.do("pin", "02_attention/leak")
    picture = wall.picture()
    assert picture["pinned"] and (picture["question"]["name"], picture["question"]["answered"]) == ("02_attention/leak", 0)
    wall.do("follow")
    assert wall.picture()["question"]["name"] == "02_attention/score" and wall.picture()["at"] == "question"
    for who in (ANN, BEN):
        wall.answer(who, question="check_average", answer="passed")
    assert wall.picture()["at"] == "exercise"


def test_who_has_joined_is_counted_before_the_first_answer(wall):
    assert wall.ask("/members", {"name": ANN}) == (204, "")
    assert wall.ask("/members", {"name": ANN}) == (204, "")
    assert wall.picture()["members"] == 1 and wall.picture()["question"] is None


def test_a_page_that_is_open_hears_of_every_change(wall):
    with socket.create_connection((wall.host, wall.port), 60) as line:
        line.sendall(f"GET /{wall.word}/events HTTP/1.1\r\nHost: {wall.host}\r\n\r\n".encode())
        for answered in range(3):
            said = b""
            while f'"answered": {answered}'.encode() not in said and not (answered == 0 and b"data:" in said):
                said += line.recv(65_536)
            wall.answer(secrets.token_hex(8))


# ---- what it keeps to itself ---------------------------------------------------------------------------------------------

def everything_it_says(folder, answers, monkeypatch):
    """All that a wall ever says before it is told to reveal, to whoever asks, when the class answers this."""
    numbers = iter(range(1, 10_000))
    monkeypatch.setattr(command, "unguessable", lambda parts: "-".join(["tamiro"] * parts))
    monkeypatch.setattr(crowd.secrets, "token_hex", lambda size: f"{next(numbers):0{2 * size}x}")
    wall, said = Running(folder), []
    try:
        for who, answer in zip((ANN, BEN, CAT), answers):
            said += [wall.ask("/members", {"name": who}), wall.answer(who, answer=answer), wall.picture()]
        said += [wall.do("pin", SCALE), wall.picture(), wall.do("greet"), wall.table(), wall.ask(), wall.ask("/answers"),
                 wall.answer(ANN, answer="1"), wall.do("hide", SCALE), wall.do("follow"), wall.picture()]
        hidden = json.dumps(said).replace(str(wall.port), "PORT")
        wall.do("reveal all")
        return hidden, wall.picture()["question"]["bars"], wall.table()
    finally:
        wall.stop()


def test_before_reveal_nothing_that_it_says_depends_on_what_was_answered(tmp_path, monkeypatch):
    hidden, bars, table = everything_it_says(tmp_path / "one", ("8", "8", "8"), monkeypatch)
    hidden_too, other_bars, other_table = everything_it_says(tmp_path / "two", ("1", "64", "64"), monkeypatch)
    assert hidden == hidden_too
    assert bars != other_bars and table != other_table and bars[1]["count"] == 3


@pytest.mark.parametrize("word", ["", "wrong", "é", None])
def test_only_the_teacher_reveals_pins_and_exports(wall, word):
    wall.answer()
    headers = {} if word is None else {"X_Teacher": word.encode("latin-1").decode("latin-1")}
    for do, question in (("reveal", SCALE), ("hide", SCALE), ("pin", SCALE), ("follow", ""), ("reveal all", ""), ("greet", "")):
        status, said = wall.ask("/teacher", {"do": do, "question": question}, **headers)
        assert status == 403 and "the word stands in the terminal" in said
    assert wall.ask("/answers.csv", {}, **headers)[0] == 403
    assert wall.picture()["question"]["bars"] == []
    assert wall.teacher not in wall.ask()[1] and wall.teacher not in json.dumps(wall.picture())


def test_without_the_words_there_is_nothing(wall):
    word, wall.word = wall.word, "kestrel"
    for path in ("", "/events", "/answers", "/answers.csv", "/teacher"):
        assert wall.ask(path)[0] == 404
        assert word not in wall.ask(path)[1]
    assert wall.ask("/members", {"name": ANN})[0] == 404
    wall.word = ""
    assert wall.ask()[0] == 404


@pytest.mark.parametrize(("headers", "said"), [
    ({"Host": "evil.example"}, "its own address alone"), ({"Host": "evil.example:8800"}, "its own address alone"),
    ({"Origin": "http://evil.example"}, "pages of others"), ({"Origin": "null"}, "pages of others"),
    ({"Content_Type": "text/plain"}, "application/json"),
    ({"Content_Type": "application/x-www-form-urlencoded"}, "application/json")])
def test_the_pages_of_others_get_nothing_done(wall, headers, said):
    status, sentence = wall.ask("/teacher", {"do": "reveal", "question": SCALE}, X_Teacher=wall.teacher, **headers)
    assert status in (403, 415) and said in sentence
    assert wall.ask("/answers", crowd.answer(ANN), **headers)[0] == status and wall.table() == []


def test_its_own_page_may(wall):
    origin = f"http://{wall.host}:{wall.port}"
    assert wall.ask("/members", {"name": ANN}, Origin=origin)[0] == 204
    assert wall.ask("/members", {"name": BEN}, Host="localhost")[0] == 204


def test_the_page_loads_nothing_and_makes_no_markup_of_what_it_is_told(wall):
    status, page = wall.ask()
    assert status == 200 and "$" not in page.split("<script")[0]
    line = http.client.HTTPConnection(wall.host, wall.port)
    line.request("GET", f"/{wall.word}/")
    policy = line.getresponse().getheader("Content-Security-Policy")
    line.close()
    assert "default-src 'none'" in policy and "connect-src 'self'" in policy and "unsafe" not in policy
    outside = re.findall(r"""(?:src|href|action)\s*=\s*["']?([^"'\s>]+)""", page)
    assert set(outside) <= {"data:,", "URL.createObjectURL(table);"}, outside
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|DOMParser|srcdoc", page)


def test_no_address_is_kept_or_logged(wall, tmp_path, capfd, caplog):
    wall.answer()
    wall.ask("/answers", b"\xff" * 100)
    wall.word += "x"
    wall.ask()
    with socket.create_connection((wall.host, wall.port)) as line:
        line.sendall(b"nonsense\r\n\r\n")
        line.recv(100)
    kept = b"".join(path.read_bytes() for path in (tmp_path / "wall").iterdir())
    assert b"127.0.0.1" not in kept
    assert "127.0.0.1" not in "".join(capfd.readouterr())
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


# ---- what it refuses -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("change", "said"), [
    ({"name": "Ann Miller"}, "name must match"), ({"name": ""}, "name must match"), ({"id": "1"}, "id must match"),
    ({"question": "scales"}, "no question 'scales' in the notebook '02_attention'"),
    ({"notebook": "../../etc"}, "no question 'scale' in the notebook"),
    ({"question": "<img src=x>"}, "no question"), ({"answer": "7"}, "no answer to 02_attention/scale"),
    ({"answer": "<script>alert(1)</script>"}, "no answer"), ({"mistake": "Your rows are sums"}, "no mistakes"),
    ({"question": "average", "answer": "ten"}, "no answer"), ({"question": "average", "answer": "9" * 70}, "no answer"),
    ({"question": "check_attention", "answer": "8"}, "with 'passed', or with a mistake"),
    ({"question": "check_attention", "answer": "", "mistake": "My teacher"}, "with 'passed', or with a mistake"),
    ({"question": "check_attention", "answer": "passed", "mistake": "Your rows are sums"}, "with 'passed'"),
    ({"question": "check_attention", "notebook": "Ann", "answer": "passed"}, "no question"),
    ({"time": "yesterday"}, "time must be"), ({"time": "9999-12-31T23:59:59-23:59"}, "time must be"),
    ({"code": "print()"}, "and no other"), ({"answer": 8}, "each a text"), ({"answer": None}, "each a text"),
    ({"answer": "\ud800"}, "no answer"), ({"question": "average", "answer": "\ud8001"}, "no answer")])
def test_what_it_does_not_know_is_refused_in_a_sentence_and_not_kept(wall, tmp_path, change, said):
    status, sentence = wall.answer(**{"who": ANN} | change) if "name" not in change else wall.ask(
        "/answers", crowd.answer(ANN) | change)
    assert status == 400 and said in sentence and sentence.endswith(".\n")
    assert wall.table() == []


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{", b"3", b'"text"', b"\xff\xfe{}", b"[" * 4000, b"NaN",
                                  b'{"name": 1}', b"9" * 4096])
def test_a_body_that_is_no_answer_is_refused(wall, body):
    assert wall.ask("/answers", body)[0] == 400 and wall.ask("/members", body)[0] == 400


@pytest.mark.parametrize("size", [4097, 5000, 1_000_000])
def test_a_body_of_more_than_4_kb_is_refused_however_it_comes(wall, size):
    assert wall.ask("/answers", b" " * 4000 + json.dumps(crowd.answer(ANN)).encode()[:96])[0] == 400
    status, said = wall.ask("/answers", b" " * size)
    assert status == 413 and "4,096 bytes" in said
    with socket.create_connection((wall.host, wall.port), 60) as line:
        line.sendall(f"POST /{wall.word}/answers HTTP/1.1\r\nHost: {wall.host}\r\nContent-Type: application/json\r\n"
                     f"Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode() + b" " * size + b"\r\n0\r\n\r\n")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def test_more_than_a_thousand_members_are_refused_and_those_who_are_in_stay_in(wall):
    assert server.MEMBERS == 1000
    names = [f"{number:016x}" for number in range(1000)]
    asyncio.run_coroutine_threadsafe(admit(wall, names), wall.loop).result(60)
    assert wall.picture()["members"] == 1000
    for status, said in (wall.answer(ANN), wall.ask("/members", {"name": ANN})):
        assert status == 403 and "1,000 members" in said
    assert wall.answer(names[0])[0] == 204 and wall.picture()["members"] == 1000


async def admit(wall, names):
    for name in names:
        wall.wall.admit(name)
    await wall.wall.kept()


def test_more_than_five_answers_a_second_from_one_are_refused_and_the_others_are_not(wall, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(server, "monotonic", lambda: now[0])
    assert [wall.answer(ANN)[0] for _ in range(7)] == [204] * 5 + [429] * 2
    assert wall.answer(BEN)[0] == 204 and "5 answers a second" in wall.answer(ANN)[1]
    now[0] += 0.9
    assert wall.answer(ANN)[0] == 429
    now[0] += 0.2
    assert wall.answer(ANN)[0] == 204


def test_invented_names_take_no_memory(wall):
    bodies = [(json.dumps(crowd.answer(secrets.token_hex(8), answer="7")).encode(), "answers") for _ in range(2500)]
    assert set(pipelined(wall, bodies)) == {400}
    assert len(wall.wall.recent) <= 2500 and wall.picture()["members"] == 0


def pipelined(wall, requests):
    """The statuses of many requests, (body, path) each, sent one behind the other on one connection."""
    with socket.create_connection((wall.host, wall.port), 60) as line:
        def send():
            for body, to in requests:
                line.sendall(f"POST /{wall.word}/{to} HTTP/1.1\r\nHost: {wall.host}\r\nContent-Type: application/json\r\n"
                             f"X-Teacher: {wall.teacher}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        sender = threading.Thread(target=send)
        sender.start()
        with line.makefile("rb") as answers:
            statuses = [next_status(answers) for _ in requests]
        sender.join()
    return statuses


def next_status(answers):
    status = int(answers.readline().split()[1])
    length = 0
    while header := answers.readline().strip():
        name, _, value = header.partition(b":")
        length = int(value) if name == b"Content-Length" else length
    answers.read(length)
    return status


def hostile_bodies(count, seed):
    """Random bytes, random JSON, and answers in which something is wrong, each of at most 4 KB."""
    dice = random.Random(seed)
    nasty = ["", "\0", "\ud800", "<img src=x onerror=alert(1)>", "' OR 1=1 --", "${}", "\u202e", "9" * 300, "1e999", "-0",
             "../..", "=1+1", "𝟠", "ln 0", "1" + ",000" * 12, "(" * 50, "**" * 20, "9**9**9", "8 ", " 8", "8", None, 8, 1e308,
             True, [], {}, ["8"] * 50]
    good = crowd.answer(ANN)
    for _ in range(count):
        kind = dice.randrange(4)
        if kind == 0:
            body = dice.randbytes(dice.randrange(200))
        elif kind == 1:
            text = json.dumps(good).encode()
            place = dice.randrange(len(text))
            body = text[:place] + dice.randbytes(dice.randrange(4)) + text[place + dice.randrange(4):]
        else:
            changed = dict(good)
            for _ in range(dice.randrange(1, 4)):
                changed[dice.choice([*good, "extra"])] = dice.choice(nasty)
            changed["question"] = dice.choice([changed["question"], "average", "check_attention"])
            body = json.dumps(changed).encode()
        yield body[:4096], dice.choice(["answers", "answers", "members", "teacher"])


def test_ten_thousand_hostile_bodies_do_not_bring_it_down(wall, monkeypatch, caplog):
    monkeypatch.setattr(server, "RATE", 1_000_000)          # or all but five of a second meet the same refusal
    wall.wall.recent.default_factory = lambda: deque(maxlen=1_000_000)
    statuses = pipelined(wall, list(hostile_bodies(10_000, seed=1)))
    assert len(statuses) == 10_000 and set(statuses) <= {204, 400, 403} and statuses.count(400) > 4_000
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    wall.do("reveal all")
    for row in wall.table():
        question = bank().get(f"{row['notebook']}/{row['question']}")
        assert re.fullmatch("[0-9a-f]{16}", row["name"])
        assert question.judge(row["answer"]) if question else row["answer"] in {"passed", *exercises.names()}
    assert wall.answer(BEN)[0] == 204


# ---- what it survives ----------------------------------------------------------------------------------------------------

def test_a_restart_keeps_the_lesson_and_its_words(tmp_path):
    wall = Running(tmp_path / "wall")
    wall.answer(ANN)
    wall.answer(BEN, question="check_average", answer="passed")
    wall.do("reveal", SCALE)
    wall.do("pin", SCALE)
    before, table, who = wall.picture(), wall.table(), (wall.word, wall.teacher)
    wall.stop()
    again = Running(tmp_path / "wall", port=wall.port)
    assert (again.picture(), again.table(), (again.word, again.teacher)) == (before, table, who)
    again.stop()
    new = Running(tmp_path / "wall", new=True)
    assert new.picture()["members"] == 0 and new.word != wall.word and new.teacher != wall.teacher
    new.stop()
    (old,) = (tmp_path / "wall").glob("lesson-*.sqlite")
    assert read(old, "SELECT count(*) FROM answers") == [(2,)]


def test_the_lesson_is_for_its_owner_alone_and_for_one_wall_at_a_time(tmp_path, wall, monkeypatch, capsys):
    file = tmp_path / "wall" / "lesson.sqlite"
    assert file.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(command, "FOLDER", tmp_path / "wall")
    assert command.main([]) == 1
    said = capsys.readouterr().err
    assert str(tmp_path / "wall") in said and "another wall" in said and "Traceback" not in said


def test_where_the_disk_is_full_no_answer_is_acknowledged_and_the_wall_goes_on(wall):
    wall.answer(ANN)
    pages = asyncio.run_coroutine_threadsafe(shrink(wall), wall.loop).result(60)
    status, said = 204, ""
    for _ in range(500):
        status, said = wall.answer(secrets.token_hex(8))
        if status != 204:
            break
    assert status == 503 and "cannot write its file" in said
    acknowledged = len(wall.table())
    asyncio.run_coroutine_threadsafe(shrink(wall, pages * 10), wall.loop).result(60)
    assert wall.answer(CAT)[0] == 204 and len(wall.table()) == acknowledged + 1
    assert wall.picture()["members"] == acknowledged + 1


async def shrink(wall, pages=None):
    """Lets the file have so many pages and no more: as a full disk does."""
    db = wall.wall.store.db
    now = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages or now + 1}")
    return now


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    return tmp_path_factory.mktemp("lesson")


def test_no_answer_of_two_hundred_is_lost_or_doubled_over_a_kill_in_the_middle(lesson):
    """And before it: 200 at once take no longer than a few times what tornado alone takes for them, on this machine now."""
    with crowd.Started(lesson, "--port", "0") as wall, crowd.Started(lesson, program=("-c", crowd.BARE)) as bare:
        crowd.slowest(wall)                                 # warm; four times 200 members leave room for 200 more
        ratios = sorted(crowd.slowest(wall) / crowd.slowest(bare) for _ in range(3))
        assert ratios[0] < 4, ratios
        bodies = [crowd.answer(secrets.token_hex(8), question="score", answer="3") for _ in range(crowd.MEMBERS)]
        heard = threading.Semaphore(0)
        class_ = threading.Thread(target=lambda: asyncio.run(insist(wall, bodies, heard)))
        class_.start()
        for _ in range(crowd.MEMBERS // 4):                                     # a quarter knows that it is heard
            assert heard.acquire(timeout=60)
        wall.kill()
        taken = acknowledged(lesson)
        assert crowd.MEMBERS // 4 <= taken < crowd.MEMBERS, taken
        with crowd.Started(lesson, "--port", str(wall.port)) as again:
            assert (again.word, again.teacher) == (wall.word, wall.teacher)
            class_.join(120)
            assert not class_.is_alive()
    rows = read(lesson / "wall" / "lesson.sqlite", "SELECT id, member, tries FROM answers WHERE question = 'score'")
    assert sorted(rows) == sorted((body["id"], body["name"], 1) for body in bodies)


async def insist(wall, bodies, heard):
    """Each is sent again, the same, until it is taken. They come one after the other, so that a kill finds some on their way."""
    async def one(number, body):
        await asyncio.sleep(number / 100)
        while (await crowd.post(wall, body))[0] != 204:
            await asyncio.sleep(0.2)
        heard.release()
    await asyncio.gather(*(one(number, body) for number, body in enumerate(bodies)))


def acknowledged(folder):
    (taken,), = read(folder / "wall" / "lesson.sqlite", "SELECT count(*) FROM answers WHERE question = 'score'")
    return taken


def read(path, statement):
    """The rows of a lesson's file. It is closed at once: left to the garbage collector, it would keep the next wall out."""
    with contextlib.closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as file:
        return file.execute(statement).fetchall()


# ---- the table -----------------------------------------------------------------------------------------------------------

def test_the_table_has_the_columns_of_export_predictions(wall, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, "FOLDER", tmp_path / "answers")
    header = export_predictions(tmp_path / "mine.csv").read_text().strip().split(",")
    wall.answer(ANN, answer="64")
    wall.answer(ANN, question="check_average", answer="", mistake="Your rows are sums")
    wall.do("reveal", SCALE)
    first, second = wall.table()
    assert list(first) == header
    assert list(first.values()) == [ANN, "02_attention", "scale", bank()[SCALE].text, "64", "False", "1",
                                    "2026-11-30T09:00:00+00:00"]
    assert [second[name] for name in ("question", "text", "answer")] == ["check_average", "average of the past",
                                                                         "Your rows are sums"]


# ---- the names of mistakes -----------------------------------------------------------------------------------------------

def test_a_mistake_has_a_short_name_that_was_in_the_package_before():
    assert exercises.mistake("Your rows are sums. Divide row i by how many rows it adds up: i + 1. For the same inputs again: "
                             "check_average(…, seed=3).") == "Your rows are sums"
    assert exercises.mistake("You divide every row by T = 7. Row i adds up i + 1 rows, so divide it by i + 1.") == \
        "You divide every row by T"
    assert exercises.mistake("something new") == exercises.UNNAMED in exercises.names()
    assert exercises.mistake("my_mask is not written yet: put your own code …") is None


def test_nearly_all_that_the_checks_say_has_a_name_of_its_own():
    said = [line[2:].replace("&lt;", "<") for page in (ROOT / "docs" / "teaching").glob("*.md")
            for line in re.findall(r"<summary><code>check_.*?</details>", page.read_text(encoding="utf-8"), re.S)
            for line in re.findall(r"^- .*", line, re.M)]
    names = [exercises.mistake(sentence) for sentence in said]
    assert len(said) > 300 and names.count(exercises.UNNAMED) < 0.03 * len(said) and None not in names
    assert len(set(names)) > 0.5 * len(set(said)), "many mistakes share a name"
    assert set(names) <= exercises.names() and max(map(len, exercises.names())) < 90


def test_nothing_of_the_student_is_in_the_name():
    def ann_miller(T):
        raise RuntimeError("my secret")

    heard = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framework, "listeners", [lambda check, said: heard.append((check, exercises.mistake(said)))])
        with pytest.raises(Mistake, match="my secret"):
            check_causal_mask(ann_miller)
    assert heard == [("check_causal_mask", "Your function stopped with an error")]


def test_every_check_is_an_exercise_of_a_notebook():
    from minigpt.classroom import checks
    assert exercises.bank().keys() == {name for name in checks.__all__ if name.startswith("check_")}
    assert all(each.title and each.notebook in exercises.notebooks() for each in exercises.bank().values())


def test_who_listens_to_the_checks_hears_how_each_ended_and_cannot_disturb(monkeypatch, capsys):
    def right(T):
        import torch
        return torch.ones(T, T, dtype=torch.bool).tril()

    heard = []
    monkeypatch.setattr(framework, "listeners", [lambda *_: 1 / 0, lambda *event: heard.append(event)])
    check_causal_mask(right)
    with pytest.raises(Mistake):
        check_causal_mask(lambda T: ~right(T))
    assert heard[0] == ("check_causal_mask", "") and "wrong way round" in heard[1][1]


# ---- the student's side --------------------------------------------------------------------------------------------------

@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """This process as a student's kernel: nobody listens yet, and the wall is tried again soon."""
    monkeypatch.setattr(prediction, "FOLDER", tmp_path / "answers")
    monkeypatch.setattr(prediction, "listeners", [])
    monkeypatch.setattr(framework, "listeners", [])
    for name, seconds in (("FIRST_PAUSE", 0.05), ("LONGEST_PAUSE", 0.2), ("SPACING", 0.001), ("GREETING", 20)):
        monkeypatch.setattr(member, name, seconds)
    yield
    member._stop()


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def test_what_is_answered_and_checked_arrives_and_join_says_what_is_sent(wall, kernel, capsys):
    member.join(wall.address)
    said = capsys.readouterr().out
    for word in ("notebook", "question", "answer", "mistake", "time", "random name", member._name, "No name", "no code",
                 "leave()", member.CONNECTED):
        assert word in said
    predict(SCALE).answer("64")
    with pytest.raises(Mistake):
        check_causal_mask(lambda T: __import__("torch").ones(T, T, dtype=bool))
    until(lambda: len(wall.table()) == 2)
    wall.do("reveal all")
    rows = wall.table()
    assert [(row["name"], row["notebook"], row["question"], row["answer"]) for row in rows] == [
        (member._name, "02_attention", "scale", "64"),
        (member._name, "02_attention", "check_causal_mask", "Your mask hides nothing")]
    assert wall.picture()["members"] == 1


@pytest.mark.parametrize("session", ["notebooks/05_bug_hunt.ipynb", "Ann Miller.ipynb"])
def test_the_name_of_a_file_is_sent_only_where_it_is_one_of_ours(wall, kernel, monkeypatch, session):
    monkeypatch.setenv("JPY_SESSION_NAME", session)
    member.join(wall.address)
    with pytest.raises(Mistake):
        check_causal_mask(lambda T: None)
    until(wall.table)
    assert wall.table()[0]["notebook"] == ("05_bug_hunt" if "05" in session else "02_attention")


def test_a_question_that_the_wall_cannot_know_and_a_cell_that_is_not_begun_are_not_sent(wall, kernel):
    def my_mask(T):
        raise NotImplementedError()

    member.join(wall.address)
    predict("colour", "Which colour do you like?", {"red": True, "blue": "No."}).answer("blue")
    with pytest.raises(Mistake):
        check_causal_mask(my_mask)
    predict(SCALE).answer("8")
    until(wall.table)
    assert [row["question"] for row in wall.table()] == ["scale"]


def test_to_join_again_is_to_be_in_once(wall, kernel):
    member.join(wall.address)
    member.join(wall.address + "/")
    predict(SCALE).answer("8")
    until(wall.table)
    assert len(prediction.listeners) == 1 and wall.picture()["members"] == 1 and len(wall.table()) == 1


def test_after_leave_nothing_is_sent(wall, kernel, capsys):
    member.join(wall.address)
    member.leave()
    assert member.LEFT in capsys.readouterr().out
    predict(SCALE).answer("8")
    assert prediction.listeners == framework.listeners == [] and wall.table() == []
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "minigpt-wall"])
    member.leave()
    assert "have not joined" in capsys.readouterr().out


@pytest.mark.parametrize("address", [
    "", "kestrel", "192.168.1.20:8800/kestrel", "https://192.168.1.20:8800/kestrel", "http://192.168.1.20/kestrel",
    "http://192.168.1.20:8800", "http://192.168.1.20:8800/", "http://192.168.1.20:99999/kestrel", "http://a b:1/kestrel",
    "http://192.168.1.20:8800/kestrel/answers", "http://192.168.1.20:8800/kestrel#teacher", "http://user@host:1/kestrel",
    "http://192.168.1.20:8800/kes\r\nX: y"])
def test_an_address_that_is_none_is_answered_with_a_sentence(kernel, address):
    with pytest.raises(ValueError, match="^address must be the one that the wall shows, such as 'http://.*', not "):
        member.join(address)
    assert prediction.listeners == []


def test_an_address_of_another_kind_or_with_other_words_is_answered_with_a_sentence(wall, kernel):
    with pytest.raises(TypeError, match="address must be a str, not 8800"):
        member.join(8800)
    with pytest.raises(ValueError, match=rf"address must end with .*; at 127.0.0.1:{wall.port} there is no wall 'kestrel'"):
        member.join(f"http://127.0.0.1:{wall.port}/kestrel")
    assert prediction.listeners == [] and member._joined is None


def test_what_could_not_be_sent_is_sent_later_once(tmp_path, kernel, capsys):
    wall = Running(tmp_path / "wall")
    member.join(wall.address)
    wall.stop()
    predict(SCALE).answer("64")
    predict(SCALE).answer("8")
    until(lambda: member._joined.state == member.AWAY)
    again = Running(tmp_path / "wall", port=wall.port)
    until(lambda: len(again.table()) == 2 and member._joined.state == member.CONNECTED)
    again.do("reveal all")
    assert [row["answer"] for row in again.table()] == ["64", "8"]
    again.stop()
    assert capsys.readouterr().out.count(member.AWAY) == 0, "nothing is printed into a cell that comes later"


def test_a_lesson_that_is_over_is_left_alone(tmp_path, kernel):
    wall = Running(tmp_path / "wall")
    member.join(wall.address)
    wall.stop()
    new = Running(tmp_path / "wall", port=wall.port, new=True)
    predict(SCALE).answer("8")
    until(lambda: member._joined.state == member.GONE)
    assert new.table() == [] and new.picture()["members"] == 0
    new.stop()


def test_no_proxy_is_asked(wall, kernel, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    member.join(wall.address)
    assert member._joined.state == member.CONNECTED


# Walls that are slow, gone or hostile: what each does with a connection. `over` is set when the test is over.

def silent(line, over):
    over.wait()


def drips(line, over):
    while not over.wait(0.05):
        line.sendall(b"H")


def goes_on_for_ever(line, over):
    line.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n")
    while not over.is_set():
        line.sendall(b"x" * 65_536)


def endless_headers(line, over):
    line.sendall(b"HTTP/1.1 503 no\r\n")
    while not over.is_set():
        line.sendall(b"X-Header: y\r\n" * 1000)


def garbage(line, over):
    line.sendall(b"\xff\x00<html>\x1b[31m" * 100)


def hangs_up(line, over):
    pass


def sends_elsewhere(line, over):
    port = line.getsockname()[1]
    line.sendall(f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{port}/elsewhere\r\nContent-Length: 0\r\n\r\n".encode())


def not_one_thousand(line, over):
    line.sendall(b"HTTP/1.1 99999999999999999999999999 no\r\n\r\n")


HOSTILE = [silent, drips, goes_on_for_ever, endless_headers, garbage, hangs_up, sends_elsewhere, not_one_thousand]


class Hostile:
    """A server that treats every connection so, and remembers the first lines of what it was asked."""

    def __init__(self, behaviour):
        self.behaviour, self.over, self.asked = behaviour, threading.Event(), []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listening.getsockname()[1]}/tamiro-veluna"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while not self.over.is_set():
            try:
                line, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=[line], daemon=True).start()

    def serve(self, line):
        with line:
            try:
                self.asked.append(line.recv(4096).split(b"\r\n")[0].decode("latin-1"))
                self.behaviour(line, self.over)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.over.set()
        self.listening.close()


@pytest.mark.parametrize("behaviour", HOSTILE)
def test_no_cell_waits_for_a_wall_that_is_slow_or_hostile_and_none_shows_an_error(kernel, capsys, monkeypatch, behaviour):
    """The wall has a thousand seconds: whoever waited for it would still wait when this test gives up."""
    monkeypatch.setattr(member, "PATIENCE", 1000)
    monkeypatch.setattr(member, "GREETING", 0.2)
    monkeypatch.setattr(threading, "excepthook", lambda failure: pytest.fail(str(failure)))

    def cells():
        member.join(hostile.address)
        predict(SCALE).answer("64")
        with pytest.raises(Mistake):
            check_causal_mask(lambda T: None)

    with Hostile(behaviour) as hostile:
        running = threading.Thread(target=cells)
        running.start()
        running.join(60)
        assert not running.is_alive()
        until(lambda: hostile.asked)
        assert set(hostile.asked) <= {"POST /tamiro-veluna/members HTTP/1.1", "POST /tamiro-veluna/answers HTTP/1.1"}
        out, err = capsys.readouterr()
        assert err == "" and out.count(member.AWAY) <= 1 and "Error" not in out and "Traceback" not in out
        member.leave()


@pytest.mark.parametrize("behaviour", [silent, drips, endless_headers])
def test_a_wall_has_so_many_seconds_for_an_answer_and_then_its_turn_is_over(kernel, monkeypatch, behaviour):
    monkeypatch.setattr(member, "PATIENCE", 0.3)
    monkeypatch.setattr(member, "GREETING", 0.1)
    with Hostile(behaviour) as hostile:
        member.join(hostile.address)
        until(lambda: len(hostile.asked) > 2)                   # it is tried again


def test_a_wall_that_is_gone_is_told_once_and_everything_goes_on(kernel, capsys):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    member.join(f"http://127.0.0.1:{port}/tamiro-veluna")
    assert member.AWAY in capsys.readouterr().out
    predict(SCALE).answer("64")
    predict(SCALE).answer("8")
    assert capsys.readouterr() == ("", "")


def test_a_kernel_ends_while_the_wall_still_holds_its_answer(tmp_path):
    code = ("import sys\nfrom minigpt.classroom import join, predict\nfrom minigpt.classroom.wall import member\n"
            "member.PATIENCE = 1000\njoin(sys.argv[1])\npredict('02_attention/scale').answer('8')\nprint('the end')")
    with Hostile(silent) as hostile:
        done = subprocess.run([sys.executable, "-c", code, hostile.address], cwd=tmp_path, capture_output=True, text=True,
                              timeout=200, env=crowd._environment())
        assert not hostile.over.is_set()
    assert done.returncode == 0 and done.stdout.endswith("the end\n") and done.stderr == ""


def test_who_has_not_joined_reaches_no_network_and_starts_nothing(tmp_path):
    code = NO_NETWORK + """
import threading
from minigpt.classroom import *
from minigpt.classroom import Mistake, check_causal_mask, predict, prediction
from minigpt.classroom.checks import framework

predict("02_attention/scale").answer("8")
try:
    check_causal_mask(lambda T: None)
except Mistake:
    pass
assert prediction.listeners == framework.listeners == []
assert not [thread for thread in threading.enumerate() if "wall" in thread.name]
assert not {"minigpt.classroom.wall.server", "minigpt.classroom.wall.store", "minigpt.classroom.wall.exercises",
            "tornado.web", "tornado.httpserver"} & sys.modules.keys()
print("quiet")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200,
                          env=crowd._environment())
    assert done.stdout == "quiet\n", done.stderr


# ---- the command ---------------------------------------------------------------------------------------------------------

def test_the_words_are_unguessable_and_can_be_typed():
    some = {words.unguessable(2) for _ in range(1000)}
    assert len(some) == 1000 and all(re.fullmatch("[a-z]{6}-[a-z]{6}", word) for word in some)
    assert len(set("".join(some))) == 20                        # 14 consonants, 5 vowels, and the hyphen


def test_it_says_what_to_do_and_who_may_come(tmp_path):
    store = command.open_lesson(tmp_path / "wall", new=False)
    wall = server.Wall(store, f"http://192.168.1.20:8800/{store.get('word')}")
    alone, for_all = (command.what_to_do(wall, "http://127.0.0.1:8800", lan) for lan in (False, True))
    assert f'join("http://192.168.1.20:8800/{wall.word}")' in alone
    assert f"http://127.0.0.1:8800/{wall.word}#{wall.teacher}" in alone
    assert "this computer only" in alone and "this computer only" not in for_all
    store.close()


@pytest.mark.parametrize(("arguments", "said"), [
    (["--port", "70000"], "--port must be a whole number"), (["--port", "x"], "invalid"), (["--wan"], "unrecognized")])
def test_a_slip_in_the_options_is_told_in_a_sentence(arguments, said, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(tmp_path, monkeypatch, capsys, wall):
    monkeypatch.setattr(command, "FOLDER", tmp_path / "another")
    assert command.main(["--port", str(wall.port)]) == 1
    assert f"The port {wall.port} can't be had" in capsys.readouterr().err


def test_only_with_lan_does_it_listen_to_others(monkeypatch):
    bound = []

    def bind(port, address, backlog):
        bound.append(address)
        raise OSError(98, "in use")

    monkeypatch.setattr(command, "bind_sockets", bind)
    for lan in (False, True):
        with pytest.raises(OSError, match="in use"):
            asyncio.run(command.serve(None, 8800, lan))
    assert bound == ["127.0.0.1", None]


def test_a_wall_whose_words_nobody_reads_is_up_all_the_same(tmp_path):
    """And does not say that its port is taken."""
    stopped_at_once = ("import asyncio, sys\nfrom minigpt.classroom.wall import __main__ as wall\n"
                       "def wait(_): raise KeyboardInterrupt\n"
                       "asyncio.Event.wait = wait\nsys.exit(wall.main(['--port', '0']))")
    readable, pipe = os.pipe()
    os.close(readable)
    run = subprocess.run([sys.executable, "-c", stopped_at_once], cwd=tmp_path, stdout=pipe, stderr=subprocess.PIPE, text=True,
                         timeout=120)
    os.close(pipe)
    assert (run.returncode, run.stderr) == (0, "")
