"""Answers to the exercises of 05_bug_hunt that no other notebook has."""

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from checks_bank.register import right, wrong
from minigpt import GPT, GPTConfig, GPTModel, Tokenizer
from minigpt.classroom.checks import check_byte_encode, check_load, check_training_step

# ---------------------------------------------------------------------------------------------------------- byte encode


@right(check_byte_encode)
def listed(text):
    return list(text.encode("utf-8"))


@right(check_byte_encode)
def one_by_one(text):
    return [byte for character in text for byte in character.encode()]


@right(check_byte_encode)
def by_the_tokenizer(text):
    return Tokenizer.train("any text", 256, "bytes").encode(text)


@wrong(check_byte_encode, "KeyError")
def table_of_seen_characters(text):
    table = {c: ord(c) for c in "act "}
    return [table[c] for c in text]


@wrong(check_byte_encode, "the characters' numbers")
def code_points(text):
    return [ord(c) for c in text]


@wrong(check_byte_encode, "something is lost")
def ignoring(text):
    return list(text.encode("ascii", errors="ignore"))


@wrong(check_byte_encode, "something is lost")
def question_marks(text):
    return list(text.encode("ascii", errors="replace"))


@wrong(check_byte_encode, "what comes is bytes")
def bytes_themselves(text):
    return text.encode()


@wrong(check_byte_encode, "UTF-8 bytes are")
def reversed_bytes(text):
    return list(text.encode())[::-1]


@wrong(check_byte_encode, "not written yet")
def encode_stub(text):
    raise NotImplementedError()

# -------------------------------------------------------------------------------------------------------- training step


def loss_of(model, x, y, reduction="mean"):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction=reduction)


@right(check_training_step)
def zero_first(model, optimizer, x, y):
    loss = loss_of(model, x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@right(check_training_step)
def zero_last(model, optimizer, x, y):
    loss = loss_of(model, x, y)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@right(check_training_step)
def zero_by_the_model(model, optimizer, x, y):
    model.zero_grad()
    loss = F.cross_entropy(model(x).transpose(1, 2), y)
    loss.backward()
    optimizer.step()
    return float(loss)


@wrong(check_training_step, "It still holds the steps before")
def never_emptied(model, optimizer, x, y):
    loss = loss_of(model, x, y)
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong(check_training_step, "no weight has changed")
def emptied_before_use(model, optimizer, x, y):
    loss = loss_of(model, x, y)
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
    return loss.item()


@wrong(check_training_step, "no weight has changed")
def no_backward(model, optimizer, x, y):
    optimizer.zero_grad()
    loss = loss_of(model, x, y)
    optimizer.step()
    return loss.item()


@wrong(check_training_step, "mean over all tokens")
def summed(model, optimizer, x, y):
    loss = loss_of(model, x, y, "sum")
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@wrong(check_training_step, "holds the whole graph")
def with_its_graph(model, optimizer, x, y):
    loss = loss_of(model, x, y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss


@wrong(check_training_step, "before the step")
def another_loss(model, optimizer, x, y):
    return zero_first(model, optimizer, x, y) + 1


@wrong(check_training_step, "returns None")
def step_without_return(model, optimizer, x, y):
    zero_first(model, optimizer, x, y)


@wrong(check_training_step, "not written yet")
def step_stub(model, optimizer, x, y):
    raise NotImplementedError()

# ----------------------------------------------------------------------------------------------------------------- load

right(check_load)(GPT.load)


@right(check_load)
def by_load(path):
    gpt = GPT.load(path)
    gpt.model.eval()
    return gpt


@right(check_load)
def copied(path):
    loaded = GPT.load(path)
    model = GPTModel(loaded.model.config)
    model.load_state_dict(loaded.model.state_dict())
    return GPT(loaded.tokenizer, model.eval())


@wrong(check_load, "in training mode")
def copied_for_training(path):
    loaded = GPT.load(path)
    model = GPTModel(loaded.model.config)
    model.load_state_dict(loaded.model.state_dict())
    return GPT(loaded.tokenizer, model)


@wrong(check_load, "Build first, then load")
def built_again(path):
    loaded = GPT.load(path)
    return GPT(loaded.tokenizer, GPTModel(loaded.model.config))


@wrong(check_load, "must come from the file")
def size_in_the_code(path):
    loaded = GPT.load(path)
    return GPT(loaded.tokenizer, GPTModel(GPTConfig(vocab_size=256, context_length=8, d_model=16, n_heads=2, d_ff=16)))


@wrong(check_load, "Load all of them")
def norm_forgotten(path):
    loaded = GPT.load(path)
    torch.nn.init.normal_(loaded.model.norm.bias)
    return loaded


@wrong(check_load, "what comes is a dict")
def weights_alone(path):
    return load_file(path)


@wrong(check_load, "returns None")
def load_without_return(path):
    GPT.load(path)


@wrong(check_load, "not written yet")
def load_stub(path):
    raise NotImplementedError()
