"""How an answer is asked in the worker: each function hands it its inputs, and makes plain values
of what comes back.

They run where the student's code runs, so none of them knows what is right. What a question needs
besides numbers, such as a model or an optimiser, is built here, from genuine parts.
"""

from dataclasses import asdict

import torch
from torch import Tensor, nn

from minigpt import GPT, GPTConfig, GPTModel

NO_GRADIENTS = "torch refuses"


def plain(answer, *inputs):
    """What it returns."""
    return answer(*inputs)


def differentiated(answer, direction: Tensor, *inputs):
    """What it returns, and the gradients of (result * direction).sum() of the inputs.

    There is None in place of gradients where none gets through.
    """
    leaves = [part.requires_grad_() for part in inputs
              if isinstance(part, Tensor) and part.is_floating_point()]
    result = answer(*inputs)
    out = result[0] if isinstance(result, (tuple, list)) else result
    return [result, _gradients(out, direction, leaves)]


def linears(answer, direction: Tensor, x: Tensor, qkv: Tensor, projection: Tensor, bias: Tensor,
            n_heads: int):
    """The same, of x, for a function that is handed two layers, which have these weights."""
    first, second = nn.Linear(*qkv.T.shape, bias=False), nn.Linear(*projection.T.shape)
    with torch.no_grad():
        first.weight.copy_(qkv), second.weight.copy_(projection), second.bias.copy_(bias)
    x.requires_grad_()
    out = answer(x, first, second, n_heads)
    return [out, _gradients(out, direction, [x, first.weight])]


def module(answer, arguments: tuple, weights: dict[str, Tensor], x: Tensor, direction: Tensor):
    """What an instance of the class gives with these weights, by name, and their gradients."""
    made = answer(*arguments)
    made.load_state_dict(weights)
    made.eval()
    out = made(x)
    leaves = dict(made.named_parameters(remove_duplicate=False))
    return [out, _gradients(out, direction, [leaves[name] for name in sorted(weights)])]


def _gradients(out: Tensor, direction: Tensor, leaves: list[Tensor]):
    if not isinstance(out, Tensor) or not out.requires_grad or out.shape != direction.shape:
        return None
    try:
        return list(torch.autograd.grad((out * direction).sum(), leaves, allow_unused=True,
                                        materialize_grads=True))
    except RuntimeError:        # numbers that were written over: loud enough wherever it is trained
        return NO_GRADIENTS


def model(answer, config: dict, weights: dict[str, Tensor], training: bool, *inputs):
    """What a function makes of a model and the other inputs, and the model's mode afterwards."""
    given = _model(config, weights).train(training)
    return [answer(given, *inputs), given.training]


def steps(answer, config: dict, weights: dict[str, Tensor], rate: float, momentum: float,
          batches: list):
    """The losses that it returns, a step each, and the model's weights after all of them."""
    learning = _model(config, weights)
    optimizer = torch.optim.SGD(learning.parameters(), lr=rate, momentum=momentum)
    losses = [answer(learning, optimizer, x, y) for x, y in batches]
    return [losses, dict(learning.state_dict())]


def _model(config: dict, weights: dict[str, Tensor]) -> GPTModel:
    made = GPTModel(GPTConfig(**config))
    made.load_state_dict(weights)
    return made


def loaded(answer, path: str):
    """What it reads from a file: configuration, tokens, weights, mode."""
    gpt = answer(path)
    if not isinstance(gpt, GPT):
        return gpt
    return [asdict(gpt.model.config), gpt.tokenizer.vocab, dict(gpt.model.state_dict()),
            gpt.model.training]
