"""Ranks: the processes that train one model together, and all that they say to one another.

`torchrun --nproc-per-node 2 -m minigpt train …` starts the same command twice; `srun` does
likewise. Each process is a rank, and computes the gradient of its rows of the batch; PyTorch's
DistributedDataParallel averages the gradients while they come, by gloo between processors and by
NCCL between GPUs, so that every rank takes the same step (Li et al., "PyTorch Distributed:
Experiences on Accelerating Data Parallel Training", 2020). Rank 0 alone writes and speaks.

A process by itself is `ALONE`: it does none of that, and nothing of torch.distributed is called.
"""

import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import torch
from torch import Tensor, nn

from minigpt.alone import ALONE, Alone
from minigpt.device import find_device

SILENCE = 30        # seconds without a word from a rank, after which it is taken to be lost
BEAT = 0.05         # seconds between two looks at how far the others are
WORKING, DONE, FAILED = range(3)


class Ranks(Alone):
    """This process as one of several. `joined` makes one, once they have found one another."""

    def __init__(self, place: "Place"):
        self.place = place
        self.rank, self.size, self.local_rank = place.rank, place.size, place.local_rank
        self.is_first = self.rank == 0

    def device(self, name: str) -> str:
        """A GPU of its own for each rank of a machine."""
        return f"cuda:{self.local_rank}" if find_device(name).type == "cuda" else name

    def network(self, model: nn.Module) -> nn.Module:
        """The model within DistributedDataParallel, with rank 0's weights.

        The ranks' buffers are alike, as they are computed from the size alone.
        """
        return nn.parallel.DistributedDataParallel(model, forward_sync_buffers=False,
                                                   gradient_as_bucket_view=True)

    def unsent(self, network: nn.Module):
        """In here gradients add up on each rank, and are not sent yet."""
        return network.no_sync()

    def mean(self, tensor: Tensor) -> Tensor:
        """The mean over the ranks, as of their gradients."""
        mean = tensor / self.size
        torch.distributed.all_reduce(mean)
        return mean

    def total(self, number: float) -> float:
        """The sum over the ranks."""
        return self._reduced(number, torch.distributed.ReduceOp.SUM)

    def largest(self, number: float) -> float:
        """The largest of all ranks' numbers."""
        return self._reduced(number, torch.distributed.ReduceOp.MAX)

    def _reduced(self, number: float, operation) -> float:
        # A tensor of the processor, which goes by gloo: nobody waits for a GPU.
        tensor = torch.tensor(number, dtype=torch.float64)
        torch.distributed.all_reduce(tensor, operation)
        return float(tensor)

    @contextmanager
    def together(self, in_turn: bool = False) -> Iterator[None]:
        """In here a rank takes the time that it needs, and all leave together.

        A thread tells the others again and again that this rank is still there. So it may take
        longer than a lost rank's silence, and the silence of a lost one is noticed.
        """
        meeting, error = Meeting(self.size), None
        meeting.start()
        if in_turn and not self.is_first:
            meeting.first_is_ready.wait()
        try:
            if not meeting.first_failed:
                yield
        except BaseException as its_own:    # a KeyboardInterrupt too: nobody is left waiting
            error = its_own
        meeting.leave(FAILED if error else DONE)
        self._end_if_one_failed(meeting.states, error)

    def _end_if_one_failed(self, states: list[int], error: BaseException | None) -> None:
        if FAILED not in states:
            return
        if self.rank != states.index(FAILED):
            _end_in_silence()
        if self.is_first or not isinstance(error, (ValueError, TypeError, OSError)):
            raise error
        raise ValueError(f"rank {self.rank}: {error}") from error

    def check_alike(self, settings: dict[str, str]) -> None:
        """Raise ValueError, on every rank, unless all were started with the same settings."""
        everyones = [None] * self.size
        torch.distributed.all_gather_object(everyones, settings)
        for rank, theirs in enumerate(everyones):
            other = [f"{name} is {theirs.get(name)} and not {value}"
                     for name, value in everyones[0].items() if theirs.get(name) != value]
            if other and not self.is_first:
                _end_in_silence()
            if other:
                raise ValueError("all ranks must be started alike, and rank "
                                 f"{rank} differs from rank 0: {', '.join(other)}")

    def end_within(self, seconds: float) -> None:
        """Raise ConnectionError after so many seconds; 0 takes it back.

        Launchers send SIGTERM where a rank has ended, and this one may be in an evaluation that
        takes minutes. Windows has no such alarm: there the launcher kills.
        """
        if hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, partial(_ended_by_launcher, self.place))
            signal.setitimer(signal.ITIMER_REAL, seconds)


def _end_in_silence() -> None:
    """One sentence is enough. It is another rank's: a launcher ends all as soon as one has ended.
    """
    time.sleep(1)
    raise SystemExit(2)


class Meeting(threading.Thread):
    """How far every rank is, told in turns until all are ready. A collective of its own."""

    def __init__(self, size: int):
        super().__init__(daemon=True)
        self.state, self.states = WORKING, [WORKING] * size
        self.first_is_ready = threading.Event()
        self.lost: RuntimeError | None = None

    def run(self) -> None:
        try:
            while WORKING in self.states:
                state = torch.tensor([self.state])
                everyones = [torch.empty_like(state) for _ in self.states]
                torch.distributed.all_gather(everyones, state)
                self.states = [int(state) for state in everyones]
                if self.states[0] != WORKING:
                    self.first_is_ready.set()
                time.sleep(BEAT if WORKING in self.states else 0)
        except RuntimeError as error:
            self.lost = error
            self.first_is_ready.set()

    @property
    def first_failed(self) -> bool:
        """Whether rank 0 has failed, or is lost."""
        return self.lost is not None or self.states[0] == FAILED

    def leave(self, state: int) -> None:
        """Tell the others, and wait for them. Raises RuntimeError where one of them was lost."""
        self.state = state
        self.join()
        if self.lost:
            raise self.lost


# ---- who is there --------------------------------------------------------------------------------

@dataclass(frozen=True)
class Place:
    """Which of how many processes this one is, and where rank 0 waits for the others."""

    rank: int
    size: int
    local_rank: int             # of those on this machine
    host: str
    port: int
    launcher: str


def place_in(environment: Mapping[str, str]) -> Place | None:
    """What torchrun's variables say, or Slurm's; None for a process that is alone.

    Slurm's count within a step that `srun` started with several tasks, and there alone: in a batch
    script, or in the shell of `salloc`, some of them are set though nobody else was started. Raises
    ValueError for variables that say half of it.
    """
    if _number(environment, "WORLD_SIZE", 1) > 1:
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        if missing := [name for name in names if name not in environment]:
            raise ValueError(f"WORLD_SIZE is {environment['WORLD_SIZE']}, and {missing[0]} is not "
                             "set: start several processes with torchrun, which sets both")
        rank, size, local_rank, port = (_number(environment, name) for name in
                                        ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
        return Place(rank, size, local_rank, environment["MASTER_ADDR"], port, "torchrun")
    if _number(environment, "SLURM_STEP_NUM_TASKS", 1) > 1:
        hosts = environment.get("SLURM_STEP_NODELIST", environment.get("SLURM_JOB_NODELIST", ""))
        job = _number(environment, "SLURM_JOB_ID", 0)
        rank, size, local_rank = (_number(environment, name) for name in
                                  ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"))
        return Place(rank, size, local_rank, environment.get("MASTER_ADDR", first_host(hosts)),
                     _number(environment, "MASTER_PORT", 20_000 + job % 10_000), "srun")
    return None


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    value = environment.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a whole number, as torchrun or srun sets it, not "
                         f"{value!r}") from None


def first_host(hosts: str) -> str:
    """The first of a list as Slurm writes it: "node[03-07,9],other" begins with node03."""
    before, first, behind = re.match(r"([^\[,]*)(?:\[([^\],-]*)[^\]]*\]([^,]*))?", hosts).groups()
    return before + (first or "") + (behind or "")


@contextmanager
def joined(device: str) -> Iterator[Alone]:
    """The ranks of this process's environment in here, or `ALONE`. The group ends with it.

    Raises ValueError for a device that several ranks cannot use, ConnectionError where they do not
    find one another or lose one.
    """
    found = place_in(os.environ)
    if found is None:
        yield ALONE
        return
    check_engine(device, found)
    with _losses_explained(found):
        _check_port(found)
        if device == "cuda":
            torch.cuda.set_device(found.local_rank)
        os.environ |= {"MASTER_ADDR": found.host, "MASTER_PORT": str(found.port)}
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo", rank=found.rank,
            world_size=found.size, timeout=timedelta(seconds=SILENCE))
        before = signal.signal(signal.SIGTERM, partial(_ended_by_launcher, found))
        try:
            yield Ranks(found)
        finally:
            signal.signal(signal.SIGTERM, before)
            with suppress(RuntimeError):
                torch.distributed.destroy_process_group()


def _ended_by_launcher(found: Place, number: int, frame) -> None:
    """torchrun and srun send a SIGTERM to all others where a process has ended."""
    raise ConnectionError(f"rank {found.rank} of {found.size} was told to end by {found.launcher}: "
                          "another one has ended")


def check_engine(device: str, found: Place) -> None:
    """Raise ValueError unless this PyTorch can train on several ranks, on this device."""
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda' for {found.size} processes (of several "
                         f"GPUs each takes its own), not {device!r}")
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        raise ValueError("this PyTorch was built without gloo, by which processes speak to one "
                         "another: install another build of it, or leave torchrun out")
    if device == "cuda" and not torch.distributed.is_nccl_available():
        raise ValueError("this PyTorch was built without NCCL, by which GPUs speak to one another: "
                         "leave torchrun out, or take --device cpu")
    if device == "cuda" and found.local_rank >= torch.cuda.device_count():
        raise ValueError(f"device must be one for each process: this machine has "
                         f"{torch.cuda.device_count()} for 'cuda', and process "
                         f"{found.local_rank + 1} was started on it")


def _check_port(found: Place) -> None:
    """Raise ConnectionError where rank 0 cannot be met. torchrun has looked after that itself."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        return
    if found.rank == 0:
        with closing(socket.socket()) as door:
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                door.bind(("", found.port))
            except OSError as error:
                raise ConnectionError(
                    f"port {found.port}, on which the ranks are to meet, cannot be had "
                    f"({error.strerror}): set MASTER_PORT to another one") from None
        return
    until = time.monotonic() + SILENCE
    while True:
        try:
            socket.create_connection((found.host, found.port), timeout=SILENCE).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise ConnectionError(
                    f"rank {found.rank} waited {SILENCE} s for rank 0 at {found.host}, port "
                    f"{found.port}, in vain ({error.strerror or error})") from None
        time.sleep(0.2)


@contextmanager
def _losses_explained(found: Place) -> Iterator[None]:
    """In here, what gloo and NCCL say of a lost rank becomes a ConnectionError in plain words."""
    try:
        yield
    except RuntimeError as error:           # gloo's have no type of their own
        signs = ("closed by peer", "reset by peer", "Broken pipe", "Timed out", "timed out", "gloo",
                 "NCCL", "store")
        of_torch = type(error) is RuntimeError or isinstance(error, torch.distributed.DistError)
        if not of_torch or not any(sign in str(error) for sign in signs):
            raise
        raise ConnectionError(
            f"rank {found.rank} of {found.size} has lost another one, which has ended or cannot be "
            "reached. What was last written down of the run (--save-every) is whole: the same "
            "command with --resume goes on from there") from error
