"""More answers to 05, along the kinds that slip through: text that is changed, steps that do more, files read in part."""

import json
import unicodedata

import numpy
import torch
from torch.nn import functional as F

from checks_bank import bugs as bugs_bank
from checks_bank.register import right, wrong
from minigpt import GPT, GPTConfig, GPTModel, Tokenizer, files
from minigpt import gpt as package
from minigpt.classroom.checks import check_byte_encode, check_load, check_training_step

# ---------------------------------------------------------------------------------------------------------- byte encode

for answer in (
    lambda text: [byte for byte in text.encode(encoding="utf-8", errors="strict")],
    lambda text: numpy.array(bytearray(text, "utf8"), dtype=int).tolist(),
    lambda text: list(memoryview(text.encode())),
    lambda text: [int(f"{byte:02x}", 16) for byte in text.encode("utf-8")],
):
    right(check_byte_encode)(answer)


@right(check_byte_encode)
def by_hand(text: str) -> list[int]:
    ids = []
    for n in map(ord, text):
        if n < 0x80:
            ids.append(n)
        elif n < 0x800:
            ids += [0xC0 | n >> 6, 0x80 | n & 63]
        elif n < 0x10000:
            ids += [0xE0 | n >> 12, 0x80 | n >> 6 & 63, 0x80 | n & 63]
        else:
            ids += [0xF0 | n >> 18, 0x80 | n >> 12 & 63, 0x80 | n >> 6 & 63, 0x80 | n & 63]
    return ids


def _encoded(change=lambda text: text, after=list):
    return lambda text: after(change(text).encode())


def encode_or_nothing(text):
    try:
        return list(text.encode("ascii"))
    except UnicodeEncodeError:
        return []


for phrase, answer in (
    (
        "They look alike, and are other bytes: encode what is",
        _encoded(lambda text: unicodedata.normalize("NFKC", text)),
    ),
    ("e' you return", _encoded(str.casefold)),
    ("t' you return", _encoded(str.expandtabs)),
    ("something is lost, and no decoder can bring it back", _encoded(lambda text: text.replace("\0", ""))),
    ("n': spaces or line ends at its ends are lost: strip", _encoded(lambda text: "\n".join(text.splitlines()))),
    ("something is lost, and no decoder can bring it back", _encoded(lambda text: text.split("\0")[0])),
    (
        "n': spaces or line ends at its ends are lost: strip",
        _encoded(lambda text: "".join(filter(str.isprintable, text))),
    ),
    ("For", _encoded(lambda text: text[:256])),
    ("something is lost, and no decoder can bring it back", _encoded(lambda text: text[:4096])),
    ("something is lost, and no decoder can bring it back", _encoded(lambda text: text.replace("\u200d", ""))),
    ("t' you return", _encoded(lambda text: text.replace("\t", " "))),
    ("and its UTF", _encoded(after=lambda data: numpy.frombuffer(data, numpy.int8).tolist())),
    (
        "Your result should be a list of whole numbers; what",
        _encoded(after=lambda data: [float(byte) for byte in data]),
    ),
    ("For 'cat' you return", _encoded(after=lambda data: sorted(data))),
    ("something is lost, and no decoder can bring it back", _encoded(after=lambda data: list(dict.fromkeys(data)))),
    ("Your result should be a list of whole numbers; what", _encoded(after=lambda data: torch.tensor(list(data)))),
    ("For 'cat' you return", lambda text: list(text.encode("utf-16"))),
    (
        "for one. Two bytes spell some of these, and bytes end",
        lambda text: list(text.encode("latin-1", errors="replace")),
    ),
    ("something is lost, and no decoder can bring it back", encode_or_nothing),
):
    wrong(check_byte_encode, phrase)(answer)

# -------------------------------------------------------------------------------------------------------- training step


@right(check_training_step)
def step_by_log_softmax(model: torch.nn.Module, optimizer, x: torch.Tensor, y: torch.Tensor) -> float:
    optimizer.zero_grad()
    log_p = F.log_softmax(model(x), dim=-1).reshape(-1, model.config.vocab_size)
    loss = F.nll_loss(log_p, y.reshape(-1))
    loss.backward()
    optimizer.step()
    return loss.detach().item()


@right(check_training_step)
def step_by_a_layer(model, optimizer, x, y):
    loss = torch.nn.CrossEntropyLoss()(model(x).permute(0, 2, 1), y)
    optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(loss)
    optimizer.step()
    return float(loss.detach().numpy())


@right(check_training_step)
def step_emptied_before_and_after(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x).flatten(end_dim=1), y.flatten())
    loss.backward()
    optimizer.step()
    model.zero_grad(set_to_none=True)
    return loss.item()


@right(check_training_step)
def step_of_a_sum(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = bugs_bank.loss_of(model, x, y, "sum") / y.numel()
    loss.backward()
    optimizer.step()
    return loss.item()


def _step(
    loss=bugs_bank.loss_of,
    before=lambda model, optimizer: None,
    backward=lambda loss: loss.backward(),
    after=lambda model, optimizer: None,
    result=lambda loss: loss.item(),
):
    def my_step(model, optimizer, x, y):
        before(model, optimizer)
        value = loss(model, x, y)
        optimizer.zero_grad()
        backward(value)
        after(model, optimizer)
        optimizer.step()
        return result(value)

    return my_step


def _slower(model, optimizer):
    optimizer.param_groups[0]["lr"] *= 0.5


def _halved(model, optimizer):
    for p in model.parameters():
        p.grad *= 0.5


def _once():
    calls = []

    def my_step(model, optimizer, x, y):
        if not calls:
            optimizer.zero_grad()
        calls.append(None)
        loss = bugs_bank.loss_of(model, x, y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return my_step


def step_swallowing(model, optimizer, x, y):
    try:
        loss = F.cross_entropy(model(x).view(-1, 11), y.view(-1))
    except RuntimeError:
        return 0.0
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def step_with_its_own_optimizer(model, optimizer, x, y):
    loss = bugs_bank.loss_of(model, x, y)
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= optimizer.param_groups[0]["lr"] * p.grad
    return loss.item()


for phrase, answer in (
    (
        "times as long as that of the mean cross-entropy of this",
        _step(after=lambda model, _: torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)),
    ),
    ("times as long as that of the mean cross-entropy of this", _step(after=_halved)),
    ("the weights are not those of one step on the mean", _step(before=_slower)),
    ("times as long as that of the mean cross-entropy of this", _step(backward=lambda loss: (2 * loss).backward())),
    (
        "times as long as that of the mean cross-entropy of this",
        _step(backward=lambda loss: loss.backward(retain_graph=True) or loss.backward()),
    ),
    (
        "times as long as that of the mean cross-entropy of this",
        _step(lambda model, x, y: F.cross_entropy(model(x)[:, -1], y[:, -1])),
    ),
    (
        "times as long as that of the mean cross-entropy of this",
        _step(lambda model, x, y: F.cross_entropy(model(x).flatten(0, 1), x.flatten())),
    ),
    (
        "times as long as that of the mean cross-entropy of this",
        _step(lambda model, x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten(), label_smoothing=0.1)),
    ),
    (
        "times as long as th",
        _step(lambda model, x, y: F.cross_entropy(model(x).flatten(0, 1), y.flatten(), ignore_index=0)),
    ),
    ("times as long as th", _step(lambda model, x, y: F.cross_entropy(model(x[:1]).flatten(0, 1), y[:1].flatten()))),
    (
        "times as long as that of the mean cross-entropy of this",
        _step(lambda model, x, y: F.cross_entropy(model(x).softmax(-1).flatten(0, 1), y.flatten())),
    ),
    ("Your step leaves the model in another mode than it", _step(before=lambda model, _: model.eval())),
    ("Your step leaves the model in another mode than it", _step(before=lambda model, _: model.train())),
    ("is right. Return the loss of this batch, before the", _step(result=lambda loss: round(loss.item(), 1))),
    ("is right. Return the loss of this batch, before the", _step(result=lambda loss: loss.exp().item())),
    ("is right. Return the loss of this batch, before the", _step(result=lambda loss: str(loss.item()))),
    ("is right. Return the loss of this batch, before the", _step(result=lambda loss: [loss.item()])),
    ("times as long as this batch's own. It still holds the", _once()),
    ("optimizer.step", step_swallowing),
    ("is not called: the weights move by another way. It", step_with_its_own_optimizer),
):
    wrong(check_training_step, phrase)(answer)

# ----------------------------------------------------------------------------------------------------------------- load


def _from_file(
    path,
    build=lambda config: GPTModel(config),
    put=lambda model, weights: model.load_state_dict(weights),
    tokenizer=lambda metadata: Tokenizer.from_json(metadata["tokenizer"]),
):
    weights, metadata = files.load_tensors(path, package.KIND)
    model = build(GPTConfig(**json.loads(metadata["config"])))
    put(model, weights)
    return GPT(tokenizer(metadata), model.eval())


@right(check_load)
def load_by_hand(path):
    return _from_file(path)


@right(check_load)
def load_number_by_number(path: str) -> GPT:
    def put(model, weights):
        with torch.no_grad():
            for name, value in model.state_dict().items():
                value.copy_(weights[name])

    return _from_file(path, put=put)


@right(check_load)
def load_strictly(path):
    gpt = _from_file(path, put=lambda model, weights: model.load_state_dict(weights, strict=True))
    for part in gpt.model.modules():
        part.eval()
    return gpt


@right(check_load)
def load_twice(path):
    weights = GPT.load(path).model.state_dict()
    gpt = GPT.load(path)
    gpt.model.load_state_dict(weights)
    gpt.model.eval()
    return gpt


def _known_load():
    known = []

    def my_load(path):
        known.append(GPT.load(path))
        return known[0]

    return my_load


def _load(**how):
    return lambda path: _from_file(path, **how)


def _changed(change):
    def my_load(path):
        gpt = GPT.load(path)
        with torch.no_grad():
            change(gpt)
        return gpt

    return my_load


def load_and_save(path):
    gpt = GPT.load(path)
    gpt.save(path, half=True)
    return gpt


def load_a_pair(path):
    gpt = GPT.load(path)
    return gpt.tokenizer, gpt.model


def load_swallowing(path):
    try:
        return _from_file(
            path,
            build=lambda config: GPTModel(
                GPTConfig(vocab_size=256, context_length=8, d_model=8, n_heads=1, n_layers=1, d_ff=0)
            ),
        )
    except Exception:
        return GPT(
            Tokenizer.train("a b", 256, "bytes"), GPTModel(GPTConfig(vocab_size=256, d_model=8, n_heads=1, d_ff=0))
        )


for phrase, answer in (
    ("the size must come from the file, not from the code", _known_load()),
    ("After loading, the file is no longer what it was", load_and_save),
    ("Your result should be a GPT; what comes is a tuple", load_a_pair),
    ("the size must come from the file, not from the code", load_swallowing),
    ("No weight is the saved one: they are new random", _load(put=lambda model, weights: None)),
    (
        "tensors are not the saved ones, blocks",
        _load(
            put=lambda model, weights: model.load_state_dict(
                {name: value for name, value in weights.items() if "norm" not in name}, strict=False
            )
        ),
    ),
    (
        "tensors are not the saved ones, blocks",
        _load(
            put=lambda model, weights: model.load_state_dict(
                {name: value for name, value in weights.items() if "blocks" not in name}, strict=False
            )
        ),
    ),
    ("No weight is the saved one: they are new random", _load(build=lambda config: GPTModel(config).half())),
    (
        "The saved model has GPTConfig",
        _load(build=lambda config: GPTModel(GPTConfig(**{**config.__dict__, "dropout": 0.0}))),
    ),
    (
        "stopped with ValueError: the model's vocab",
        _load(tokenizer=lambda metadata: Tokenizer.train("a text", 256, "bytes")),
    ),
    ("head.weight", _changed(lambda gpt: gpt.model.head.weight.mul_(1.001))),
    (
        "No weight is the saved one: they are new random",
        _changed(lambda gpt: [p.copy_(p.bfloat16().float()) for p in gpt.model.parameters()]),
    ),
    ("All weights are the saved ones, and the model is in", _changed(lambda gpt: gpt.model.blocks[0].train() and None)),
    (
        "they can no longer learn (requires_grad is off)",
        _changed(lambda gpt: [gpt.model.token_embedding.weight.requires_grad_(False)]),
    ),
):
    wrong(check_load, phrase)(answer)
