"""How much memory a step takes, against what autograd keeps; and what is said where there is too little."""

import pytest
import torch
from small import ADAM, T, a_model, a_text, run, same, weights_of
from torch.nn import functional as F

from minigpt import training
from minigpt.memory import activation_bytes
from minigpt.self_attention import MultiHeadAttention
from minigpt.training import training_loop
from minigpt.training_state import TrainingState


@pytest.mark.parametrize("size", [{}, {"n_layers": 3, "d_model": 64, "d_ff": 256}, {"vocab_size": 1000}])
def test_activations_take_about_as_much_as_is_said(size):
    model, kept = a_model(**size), {}
    inside = {p.data_ptr() for p in model.parameters()}

    def keep(tensor):
        if tensor.data_ptr() not in inside:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    x = torch.zeros(16, T, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(x)
        loss = F.cross_entropy(logits.flatten(0, 1).float(), x.flatten())
    kept[logits.data_ptr()] = logits.untyped_storage().nbytes()     # a name holds it
    assert activation_bytes(model.config, 16) == pytest.approx(sum(kept.values()), rel=0.4)
    loss.backward()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
                                   RuntimeError("MPS backend out of memory"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to …")])
@pytest.mark.parametrize("where", ["forward", "evaluation", "optimizer"])
def test_too_little_memory_says_what_to_halve(error, where, monkeypatch):
    def fail(*arguments, **keywords):
        raise error

    model = a_model()
    state = TrainingState(model, ADAM)
    if where == "forward":
        monkeypatch.setattr(MultiHeadAttention, "forward", fail)
    elif where == "evaluation":
        monkeypatch.setattr(training, "evaluate", fail)
    else:
        monkeypatch.setattr(state.optimizers[0], "step", fail)
    with pytest.raises(MemoryError, match=r"the cpu has too little memory for this step: halve batch_size \(now 4\) or "
                                          r"context_length \(now 8\), or read the batch in more parts \(accumulate, now 1\). "
                                          r"What it keeps of 4 rows .* comes to about 4.2e-05 GB"):
        list(training_loop(state, a_text(), a_text(30), steps=2))
    monkeypatch.undo()
    untouched = a_model()
    run(untouched)
    if where != "evaluation":
        run(model)
        assert same(weights_of(model), weights_of(untouched))           # nothing of the step that failed is left


def test_another_error_comes_out_as_it_is(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("something else")

    monkeypatch.setattr(MultiHeadAttention, "forward", fail)
    with pytest.raises(RuntimeError, match="^something else$"):
        run(a_model())
