"""Right answers, spoiled in the ways that spoil any of them: what they return is right, or nearly, and they do harm besides."""

import random

import numpy
import torch
from torch import Tensor

from checks_bank.register import RIGHT, wrong
from minigpt.classroom import checks

KEEPS_NO_OBJECT = {checks.check_decode, checks.check_learning_rate, checks.check_evaluate, checks.check_load,
                   checks.check_training_step, checks.check_batch}        # numbers, texts, what is built anew or drawn
DIFFERENTIATED = {checks.check_split_heads, checks.check_attention, checks.check_multi_head, checks.check_layer_norm,
                  checks.check_feed_forward, checks.check_block, checks.check_gpt, checks.check_cross_entropy}
OF_NUMBERS = DIFFERENTIATED | {checks.check_average, checks.check_next_token_probs}
ASKED_AGAIN = {checks.check_average, checks.check_split_heads, checks.check_attention, checks.check_layer_norm,
               checks.check_next_token_probs, checks.check_cross_entropy}


def spoiled(answer, how):
    """The answer with `how(the right call, *inputs)` in its place: of a class, in place of its forward."""
    if isinstance(answer, type):
        class Spoiled(answer):
            def forward(self, *inputs):
                return how(super().forward, *inputs)
        Spoiled.__name__ = f"{how.__name__}_{answer.__name__}"
        return Spoiled

    def my_answer(*inputs):
        return how(answer, *inputs)
    my_answer.__name__ = f"{how.__name__}_{getattr(answer, '__name__', 'answer')}"
    return my_answer


def changed(result, change):
    """`change` applied to the tensors of a result."""
    return tuple(changed(part, change) for part in result) if isinstance(result, tuple) else change(result)


def seeds_torch(call, *inputs):
    torch.manual_seed(0)
    return call(*inputs)


def seeds_python(call, *inputs):
    random.seed(42)
    return call(*inputs)


def seeds_numpy(call, *inputs):
    numpy.random.seed(1337)
    return call(*inputs)


def switches_gradients_off(call, *inputs):
    torch.set_grad_enabled(False)
    return call(*inputs)


def sets_the_default_dtype(call, *inputs):
    result = call(*inputs)
    torch.set_default_dtype(torch.float64)
    return result


def detaches(call, *inputs):
    return changed(call(*inputs), Tensor.detach)


def computes_without_gradients(call, *inputs):
    with torch.no_grad():
        return call(*inputs)


def in_sixteen_bits(call, *inputs):
    return changed(call(*inputs), lambda result: result.bfloat16().to(result.dtype))


def in_double_precision(call, *inputs):
    return changed(call(*inputs), Tensor.double)


def hands_out_a_buffer():
    """A new one each time: it keeps what it hands out, by its shape or its length."""
    buffers = {}

    def into_a_buffer(call, *inputs):
        def kept(result):
            if isinstance(result, Tensor):
                with torch.no_grad():
                    return buffers.setdefault(result.shape, torch.empty_like(result)).copy_(result)
            buffer = buffers.setdefault(type(result), result)
            if buffer is not result:
                buffer.clear()
                (buffer.extend if isinstance(result, list) else buffer.update)(result)
            return buffer
        return changed(call(*inputs), kept)
    return into_a_buffer


def drifts():
    """A new one each time: every answer is a little larger than the one before."""
    calls = []

    def a_little_more(call, *inputs):
        calls.append(None)
        return changed(call(*inputs), lambda result: result * (1 + 0.01 * len(calls)))
    return a_little_more


for check, answers in list(RIGHT.items()):
    answer = answers[1]                                                   # as a student writes it; the first is often ours
    for how in (seeds_torch, seeds_python, seeds_numpy):
        wrong(check, "set no seed inside")(spoiled(answer, how))
    if check is not checks.check_training_step:                           # which needs them itself
        wrong(check, "leaves gradients switched off")(spoiled(answer, switches_gradients_off))
    wrong(check, "default dtype")(spoiled(answer, sets_the_default_dtype))
    if check in DIFFERENTIATED:
        wrong(check, "no gradient gets through it")(spoiled(answer, detaches))
        wrong(check, "no gradient gets through it")(spoiled(answer, computes_without_gradients))
    if check in OF_NUMBERS:
        reason = "where" if check is checks.check_cross_entropy else "is rounded on the way"
        wrong(check, reason)(spoiled(answer, in_sixteen_bits))
        if check is not checks.check_average:
            wrong(check, "torch.float64, where torch.float32 should be")(spoiled(answer, in_double_precision))
    if check not in KEEPS_NO_OBJECT | DIFFERENTIATED:
        wrong(check, "hands out one and the same")(spoiled(answer, hands_out_a_buffer()))
    if check in ASKED_AGAIN:
        wrong(check, "was asked the same twice")(spoiled(answer, drifts()))
