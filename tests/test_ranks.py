"""Several processes train one model: the same losses as one, one stop, one sentence, and nothing lost with a rank.

Most of them are forked from the server of `commands`, with the variables that a launcher would set; torchrun itself, which
takes seconds to start, is run three times.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from commands import CONTEXT, TEXT, TINY, Result
from small import ADAM, MUON, SIXTEEN_BITS, a_model, a_text

import minigpt
from minigpt import GPT, files, ranks, train_command
from minigpt.__main__ import main
from minigpt.run_file import KIND as RUN
from minigpt.training import evaluate, training_loop
from minigpt.training_state import TrainingState

posix = pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX's")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
STEPS = ("--steps", "12", "--save-every", "5")


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def free_port() -> int:
    with closing(socket.socket()) as door:
        door.bind(("", 0))
        return door.getsockname()[1]


def as_rank(rank, size, port, output, function, arguments):
    """What a forked process does: it sets what a launcher would have set, and calls the function."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port)}
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
    torch.set_num_threads(1)
    try:
        status = function(rank, *arguments)
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status or 0)


def start(size, folder, function, *arguments, port=None):
    """Processes that call `function(rank, *arguments)`, as so many ranks."""
    port = port or free_port()
    processes = [CONTEXT.Process(target=as_rank, args=(rank, size, port, str(folder / f"said {rank}"), function, arguments))
                 for rank in range(size)]
    for process in processes:
        process.start()
    return processes


def ended(processes, folder, seconds=60) -> list[Result]:
    """How each of them ended, and what it said."""
    until = time.monotonic() + seconds
    for process in processes:
        process.join(max(0, until - time.monotonic()))
    late = [process for process in processes if process.exitcode is None]
    for process in late:
        process.kill()
    said = [(folder / f"said {rank}").read_text(encoding="utf-8", errors="replace") for rank in range(len(processes))]
    assert not late, f"not ended in {seconds} s: {said}"
    return [Result(process.exitcode, words) for process, words in zip(processes, said, strict=True)]


def on_ranks(size, function, *arguments, seconds=60, port=None) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        return ended(start(size, Path(folder), function, *arguments, port=port), Path(folder), seconds)


def command(rank, words, its_own):
    """`minigpt …`, with words of its own for some of the ranks."""
    return main([str(word) for word in (*words, *its_own.get(rank, ()))])


def train(size, text, out, *words, its_own=None):
    return on_ranks(size, command, ("train", text, "--out", out, *TINY, *STEPS, *words), its_own or {})


# The same losses ------------------------------------------------------------------------------------------------------

CASES = {"adam, 7 rows": replace(ADAM, batch_size=7), "muon, 8 rows": replace(MUON, batch_size=8),
         "label smoothing": replace(ADAM, batch_size=5, label_smoothing=0.2),
         "in two parts": replace(MUON, batch_size=7, accumulate=2),
         "bfloat16": replace(SIXTEEN_BITS, batch_size=8)}


def trained(recipe, dropout=0.0, **arguments):
    """Losses of 50 steps, those on held-out text, and weights at the end."""
    state = TrainingState(a_model(dropout), recipe, seed=3, **arguments)
    reports = list(training_loop(state, a_text(), a_text(61, seed=5), steps=50, evaluations=5))
    validation = [report.validation_loss for report in reports if report.validation_loss is not None]
    return {"losses": [report.loss for report in reports], "validation": validation,
            "weights": torch.cat([p.detach().flatten() for p in state.model.parameters()])}


def trained_on_ranks(rank, folder):
    with ranks.joined("cpu") as group:
        cases = list(CASES)[:5 if group.size == 2 else 2]              # of three, what their share makes different
        found = {name: trained(CASES[name], ranks=group) for name in cases}
        found["dropout"] = trained(ADAM, dropout=0.3, ranks=group)
        torch.save(found, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module", params=[2, 3])
def on_several(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    results = on_ranks(request.param, trained_on_ranks, str(folder), seconds=120)
    assert [result.status for result in results] == [0] * request.param, results
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@pytest.mark.parametrize("name", CASES)
def test_the_losses_of_fifty_steps_are_those_of_one_process(name, on_several):
    if name not in on_several[0]:
        pytest.skip("tried on two ranks")
    recipe = replace(CASES[name], accumulate=1)
    tolerance = 0.02 if recipe.bfloat16 else 1e-4 if recipe.optimizer == "muon" else 1e-5
    alone = trained(recipe)
    for found in on_several:
        assert found[name]["losses"] == pytest.approx(alone["losses"], abs=tolerance)
        assert found[name]["validation"] == pytest.approx(alone["validation"], abs=tolerance)
        assert torch.equal(found[name]["weights"], on_several[0][name]["weights"])


def test_with_dropout_each_rank_drops_otherwise_and_all_take_the_same_steps(on_several):
    alone = trained(ADAM, dropout=0.3)
    for found in on_several:
        assert found["dropout"]["losses"] == on_several[0]["dropout"]["losses"] != alone["losses"]
        assert torch.equal(found["dropout"]["weights"], on_several[0]["dropout"]["weights"])
    ours, theirs = (sum(run["losses"][-20:]) / 20 for run in (on_several[0]["dropout"], alone))
    assert ours == pytest.approx(theirs, rel=0.1)


def gradients(rank, folder):
    with ranks.joined("cpu") as group:
        model = a_model()
        state = TrainingState(model, replace(ADAM, batch_size=7, clip=1e9), ranks=group)
        torch.manual_seed(0)
        x = torch.randint(20, (7, 8))
        own = group.own(x)
        (state.network(own).mean() * len(own) * group.size / 7).backward()
        sizes = state.averaging._get_ddp_logging_data()["bucket_sizes"]
        torch.save(([p.grad for p in model.parameters()], len(own), sizes), f"{folder}/{rank}.pt")


def test_the_gradient_of_rows_shared_out_is_the_whole_batchs(tmp_path):
    assert {result.status for result in on_ranks(3, gradients, str(tmp_path))} == {0}
    model = a_model()
    torch.manual_seed(0)
    model(torch.randint(20, (7, 8))).mean().backward()
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    assert sorted(rows for _, rows, _ in found) == [2, 2, 3]
    for theirs, _, buckets in found:
        for ours, shared in zip(model.parameters(), theirs, strict=True):
            torch.testing.assert_close(shared, ours.grad, rtol=1e-5, atol=1e-8)
        assert sum(map(int, buckets.split(","))) == 4 * model.n_parameters    # what is sent: 4 bytes a weight


# Together -------------------------------------------------------------------------------------------------------------

def slow_first(rank, seconds):
    ranks.SILENCE = 2
    with ranks.joined("cpu") as group:
        with group.together(in_turn=True):
            if rank == 0:
                time.sleep(seconds)
            print("in at", time.time())
        print("out at", time.time())


def test_the_first_may_take_longer_than_a_lost_ranks_silence():
    results = on_ranks(2, slow_first, 3)
    assert [result.status for result in results] == [0, 0], results
    (first_in, first_out), (in_, out) = (map(float, re.findall(r"at ([\d.]+)", result.output)) for result in results)
    assert first_in < in_ <= out + 0.01 and abs(first_out - out) < 1


def test_shares_are_all_of_it_and_each_ones_own():
    for size in (1, 2, 3, 7):
        places = [ranks.Place(rank, size, rank, "host", 1, "torchrun") for rank in range(size)]
        shares = [ranks.Ranks(place).own(range(10)) for place in places]
        assert [i for share in shares for i in share] == list(range(10))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


# Stopped, and gone on with --------------------------------------------------------------------------------------------

def interrupted(rank, words, who, step):
    """The command, of which one rank gets a Ctrl-C in the middle of a step."""
    from minigpt import batches
    windows, steps = batches._windows, iter(range(1, 1000))

    def windows_or_signal(*arguments):
        if next(steps) == step and rank == who:
            signal.raise_signal(signal.SIGINT)
        return windows(*arguments)

    batches._windows = windows_or_signal
    return main([str(word) for word in words])


def test_a_stop_at_any_rank_stops_all_at_one_step_and_resuming_takes_any_number(text, tmp_path):
    out, whole = tmp_path / "m.safetensors", tmp_path / "whole.safetensors"
    words = ("train", text, *TINY, *STEPS, "--out")
    assert main([*map(str, words), str(whole)]) == 0
    first, second = on_ranks(2, interrupted, (*words, out), 1, 7)
    assert first.status == second.status == 130
    assert f"stopped at step 7; saved {out}; the same command with --resume goes on" in first.output
    assert second.output == ""
    assert GPT.load(out).generate("It", 5, seed=0)
    again = on_ranks(3, interrupted, (*words, out, "--resume"), 0, 3)
    assert "going on from step 7" in again[0].output and "stopped at step 10" in again[0].output
    assert main([*map(str, words), str(out), "--resume"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "text.txt", "whole.safetensors"]
    ours, alone = GPT.load(out), GPT.load(whole)
    for one, other in zip(ours.model.parameters(), alone.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-5)
    assert ours.about.held_out_loss == pytest.approx(alone.about.held_out_loss, abs=1e-5)


def test_seconds_are_the_same_seconds_for_all(text, tmp_path):
    words = ("train", text, "--out", tmp_path / "m.safetensors", *TINY, "--seconds", "1")
    results = on_ranks(2, command, words, {})
    assert [result.status for result in results] == [0, 0], results
    assert re.search(r"\d+ steps in 1 s, held-out loss", results[0].output) and results[1].output == ""


# A rank that dies -----------------------------------------------------------------------------------------------------

def until(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)


LOST = "has lost another one, which has ended or cannot be reached. What was last written down"


@posix
def test_a_rank_that_dies_ends_the_others_with_a_sentence_and_the_run_is_whole(text, tmp_path):
    out = tmp_path / "m.safetensors"
    words = ("train", text, "--out", out, *TINY, "--steps", "100000", "--save-every", "1")
    processes = start(3, tmp_path, command, words, {})
    until((tmp_path / "m.safetensors.run").exists)
    processes[1].kill()
    results = ended(processes, tmp_path, seconds=30)
    assert [result.status for result in results] == [2, -9, 2]
    for rank in (0, 2):
        assert f"rank {rank} of 3 {LOST}" in results[rank].output and "Traceback" not in results[rank].output
    tensors, _ = files.load_tensors(tmp_path / "m.safetensors.run", RUN)
    again = on_ranks(2, interrupted, (*words, "--resume"), 0, 2)
    assert f"going on from step {int(tensors['progress'][0])}" in again[0].output and again[0].status == 130


def in_a_long_evaluation(rank, words):
    """Rank 0 is told to end as torchrun does it, the other one being gone, in an evaluation that takes a minute."""
    from minigpt import progress, training
    progress.GRACE = 1

    def evaluation(model, text, ranks):
        if ranks.rank == 1:
            os._exit(9)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    training.evaluate = evaluation
    return main([str(word) for word in words])


@posix
def test_a_long_evaluation_is_not_waited_for_where_a_rank_has_ended(text, tmp_path):
    words = ("train", text, "--out", tmp_path / "m.safetensors", *TINY, "--steps", "4", "--save-every", "1")
    first, second = on_ranks(2, in_a_long_evaluation, words, seconds=30)
    assert (first.status, second.status) == (2, 9)
    assert "minigpt: rank 0 of 2 was told to end by torchrun: another one has ended" in first.output
    assert "Traceback" not in first.output


def torchrun(size, *words, **keywords):
    # a session of its own: what is sent to it is not sent to the tests
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(minigpt.__file__).parents[1])}
    return subprocess.Popen([*TORCHRUN, "--nproc-per-node", str(size), "-m", "minigpt", *map(str, words)],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
                            start_new_session=True, **keywords)


@posix
def test_torchrun_a_rank_that_dies(text, tmp_path):
    process = torchrun(2, "train", text, "--out", tmp_path / "m.safetensors", *TINY, "--steps", "100000",
                       "--save-every", "1")
    until((tmp_path / "m.safetensors.run").exists)
    began = time.monotonic()
    workers = psutil.Process(process.pid).children()
    workers[0].kill()
    said, _ = process.communicate(timeout=30)
    assert time.monotonic() - began < 30 and process.returncode != 0
    assert LOST in said
    assert files.load_tensors(tmp_path / "m.safetensors.run", RUN)


@posix
def test_torchrun_ctrl_c_saves_once(text, tmp_path):
    out = tmp_path / "m.safetensors"
    process = torchrun(2, "train", text, "--out", out, *TINY, "--steps", "100000", "--save-every", "10")
    until((tmp_path / "m.safetensors.run").exists)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert said.count("Stopping after this step") == 1
    (step,) = re.findall(rf"stopped at step (\d+); saved {out}", said)
    tensors, _ = files.load_tensors(tmp_path / "m.safetensors.run", RUN)
    assert int(tensors["progress"][0]) == int(step) and GPT.load(out)


# Set up badly ---------------------------------------------------------------------------------------------------------

def one_sentence(results, rank=0):
    """What the ranks said of a set-up that cannot work: one of them one sentence, and none a stack trace."""
    assert {result.status for result in results} == {2}, results
    assert [rank for rank, result in enumerate(results) if result.output] == [rank], results
    said = results[rank].output
    assert said.startswith("minigpt: ") and said.count("\n") == 1, said
    return said


def test_ranks_that_see_another_text_or_setting_are_told_which(text, tmp_path):
    out = tmp_path / "m.safetensors"
    said = one_sentence(train(2, text, out, its_own={1: ("--seed", "5", "--steps", "11")}))
    assert "all ranks must be started alike, and rank 1 differs from rank 0" in said
    assert "steps is 11 and not 12" in said and "seed is 5 and not 0" in said
    other = tmp_path / "other.txt"
    other.write_text(TEXT.replace("man", "cat"), encoding="utf-8")
    results = on_ranks(2, on_another, ("train", "--out", out, *TINY, *STEPS), [text, other])
    assert re.search(r"the SHA-256 of text 1 is [0-9a-f]{64} and not [0-9a-f]{64}", one_sentence(results))
    results = on_ranks(2, on_another, ("train", "--out", out, *TINY, *STEPS), [text, tmp_path / "gone.txt"])
    assert f"rank 1: there is no file {tmp_path / 'gone.txt'}" in one_sentence(results, rank=1)
    results = on_ranks(2, of_another_version, ("train", text, "--out", out, *TINY, *STEPS))
    assert f"minigpt is 9.9.9 and not {minigpt.__version__}" in one_sentence(results)
    assert not list(tmp_path.glob("m.*"))


def on_another(rank, words, texts):
    return main([words[0], str(texts[rank]), *map(str, words[1:])])


def of_another_version(rank, words):
    if rank == 1:
        train_command.__version__ = "9.9.9"
    return main([str(word) for word in words])


@pytest.mark.parametrize(("words", "said"), [
    (("--batch-size", "2"), "batch_size must be at least 3 (accumulate, 1 for each of 3 processes), not 2"),
    (("--batch-size", "5", "--accumulate", "2"), "batch_size must be at least 6 (accumulate, 2 for each of 3 processes), not 5"),
    (("--vocab-size", "255"), "vocab_size must be at least 256"),
    (("--context-length", "5000"), "take a longer text or a shorter context")])
def test_what_cannot_be_shared_out_is_said_once(words, said, text, tmp_path):
    assert said in one_sentence(train(3, text, tmp_path / "m.safetensors", *words))
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_standard_input_has_one_reader(tmp_path):
    assert "standard input (-) has one reader" in one_sentence(train(2, "-", tmp_path / "m.safetensors"))


def test_a_port_that_is_taken(text, tmp_path, monkeypatch, capfd):
    with closing(socket.socket()) as door:
        door.bind(("", 0))
        door.listen()
        port = door.getsockname()[1]
        one_of_two(monkeypatch, 0, port)
        assert main(["train", str(text), "--out", str(tmp_path / "m.safetensors")]) == 2
    said = capfd.readouterr().err
    assert said == (f"minigpt: port {port}, on which the ranks are to meet, cannot be had (Address already in use): set "
                    "MASTER_PORT to another one\n")


def one_of_two(monkeypatch, rank, port):
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1",
                        "MASTER_PORT": port}.items():
        monkeypatch.setenv(name, str(value))


def test_a_rank_that_finds_nobody(text, tmp_path, monkeypatch, capfd):
    port = free_port()
    one_of_two(monkeypatch, 1, port)
    monkeypatch.setattr(ranks, "SILENCE", 1)
    assert main(["train", str(text), "--out", str(tmp_path / "m.safetensors")]) == 2
    said = capfd.readouterr().err
    assert said == (f"minigpt: rank 1 waited 1 s for rank 0 at 127.0.0.1, port {port}, in vain (Connection refused)\n")


# Who is there ---------------------------------------------------------------------------------------------------------

def test_torchruns_variables():
    environment = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}
    assert ranks.place_in(environment) == ranks.Place(3, 4, 1, "here", 29500, "torchrun")
    assert ranks.place_in(environment | {"WORLD_SIZE": "1", "RANK": "0"}) is None
    del environment["RANK"]
    with pytest.raises(ValueError, match="WORLD_SIZE is 4, and RANK is not set: start several processes with torchrun"):
        ranks.place_in(environment)


@pytest.mark.parametrize("name, value", [("RANK", "first"), ("WORLD_SIZE", "two"), ("LOCAL_RANK", ""), ("MASTER_PORT", "1.5")])
def test_a_variable_that_is_no_number_is_named(name, value):
    environment = {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}
    with pytest.raises(ValueError, match=f"{name} must be a whole number, as torchrun or srun sets it, not {value!r}"):
        ranks.place_in(environment | {name: value})
    with pytest.raises(ValueError, match="SLURM_PROCID must be a whole number, as torchrun or srun sets it, not None"):
        ranks.place_in({"SLURM_STEP_NUM_TASKS": "4"})


def test_slurms_variables_count_within_a_step_of_several_tasks_alone():
    shell = {"SLURM_JOB_ID": "123456", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
             "SLURM_JOB_NODELIST": "node[03-04]"}
    assert ranks.place_in(shell) is None                                           # a batch script, or salloc's shell
    assert ranks.place_in(shell | {"SLURM_STEP_NUM_TASKS": "1"}) is None           # srun -n 1
    step = shell | {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "node[03-04]"}
    assert ranks.place_in(step) == ranks.Place(3, 4, 1, "node03", 23456, "srun")
    assert ranks.place_in(step | {"MASTER_ADDR": "a", "MASTER_PORT": "5"}) == ranks.Place(3, 4, 1, "a", 5, "srun")


@pytest.mark.parametrize(("hosts", "first"), [("a", "a"), ("a,b", "a"), ("n[1-3]", "n1"), ("n[07,9-11],x", "n07"),
                                              ("gpu-a[003-120]-ib", "gpu-a003-ib"), ("rack1-n5,rack2-n[1-2]", "rack1-n5")])
def test_the_first_host_of_slurms_list(hosts, first):
    assert ranks.first_host(hosts) == first


def by_slurm(rank, size, port, words):
    """The command in a step as srun would have started it."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR"):
        del os.environ[name]
    os.environ |= {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_STEP_NUM_TASKS": str(size),
                   "SLURM_STEP_NODELIST": "localhost", "SLURM_JOB_ID": str(port)}
    return main([str(word) for word in words])


def test_the_same_training_with_slurms_variables(text, tmp_path):
    results = on_ranks(2, by_slurm, 2, free_port(), ("train", text, "--out", tmp_path / "m.safetensors", *TINY, *STEPS))
    assert [result.status for result in results] == [0, 0], results
    assert "training on 2 processes" in results[0].output and GPT.load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("device", "missing", "said"), [
    ("mps", None, "device must be 'cpu' or 'cuda' for 4 processes"),
    ("cpu", "is_gloo_available", "built without gloo"), ("cpu", "is_available", "built without gloo"),
    ("cuda", "is_nccl_available", "built without NCCL"),
    ("cuda", "device_count", "this machine has 1 for 'cuda', and process 2 was started on it")])
def test_an_engine_that_is_missing(device, missing, said, monkeypatch):
    for name in ("is_gloo_available", "is_available", "is_nccl_available"):
        monkeypatch.setattr(torch.distributed, name, lambda name=name: name != missing)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1 if missing == "device_count" else 8)
    with pytest.raises(ValueError, match=re.escape(said)):
        ranks.check_engine(device, ranks.Place(1, 4, 1, "host", 1, "torchrun"))


def test_each_rank_of_a_machine_takes_a_gpu_of_its_own(monkeypatch):
    group = ranks.Ranks(ranks.Place(5, 8, 2, "host", 1, "torchrun"))
    assert group.device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert group.device("cuda") == group.device("auto") == "cuda:2" and ranks.ALONE.device("cuda") == "cuda"


# Alone ----------------------------------------------------------------------------------------------------------------

def test_a_process_alone_does_not_touch_the_engine(text, tmp_path, monkeypatch):
    def touched(*arguments, **named):
        raise AssertionError("torch.distributed was used")

    for name in ("init_process_group", "all_reduce", "all_gather", "all_gather_object", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, touched)
    monkeypatch.setattr(torch.nn.parallel, "DistributedDataParallel", touched)
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert main(["train", str(text), "--out", str(tmp_path / "m.safetensors"), *TINY, *STEPS]) == 0
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert main(["train", str(text), "--out", str(tmp_path / "m.safetensors"), *TINY, *STEPS]) == 0


def test_evaluation_alone_is_the_whole_evaluation():
    model, held_out = a_model(), a_text(90)
    group = ranks.Ranks(ranks.Place(0, 2, 0, "host", 1, "torchrun"))
    group.total = lambda number: number
    half = evaluate(model, held_out, 2, ranks=group)
    group.rank = 1
    assert half + evaluate(model, held_out, 2, ranks=group) == pytest.approx(evaluate(model, held_out, 2), rel=1e-6)
    assert 0.2 < half / evaluate(model, held_out, 2) < 0.8


def test_the_settings_of_a_run_do_not_tell_how_many_trained_it(text, tmp_path):
    out = tmp_path / "m.safetensors"
    on_ranks(2, interrupted, ("train", text, "--out", out, *TINY, *STEPS), 0, 2)
    _, strings = files.load_tensors(tmp_path / "m.safetensors.run", RUN)
    assert {"ranks", "accumulate", "device"}.isdisjoint(json.loads(strings["settings"]))
