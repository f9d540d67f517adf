"""Matrix products in bfloat16: where they are used, and what stays float32."""

import contextlib
import statistics
from dataclasses import replace

import pytest
import torch
from small import MUON, SIXTEEN_BITS, a_model, a_text, processor_has, run

from minigpt import device, muon
from minigpt.training import evaluate, training_loop
from minigpt.training_state import TrainingState


@pytest.mark.parametrize("asked, able, expected", [
    (True, True, torch.bfloat16), (True, False, torch.float32), (False, True, torch.float32)])
def test_products_are_in_bfloat16_where_the_recipe_asks_and_the_processor_can(asked, able, expected, monkeypatch):
    processor_has(monkeypatch, able)
    model, dtypes, orthogonalise = a_model(), [], muon.orthogonalise
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda module, x, product: dtypes.append(product.dtype))
    monkeypatch.setattr(muon, "orthogonalise", lambda x: dtypes.append(orthogonalise(x).dtype) or orthogonalise(x))
    run(model, replace(MUON, bfloat16=asked), steps=1)
    assert len(dtypes) > 5 and set(dtypes) == {expected}


def test_in_bfloat16_all_but_the_products_stays_float32_and_the_loss_hardly_notices(monkeypatch):
    processor_has(monkeypatch, True)
    exact, _ = run(a_model(), MUON, steps=60)
    rough, state = run(a_model(), SIXTEEN_BITS, steps=60)
    assert [report.loss for report in rough] != [report.loss for report in exact]
    assert rough[-1].loss < 0.8 * rough[0].loss
    ours, theirs = (statistics.mean(report.loss for report in reports[-30:]) for reports in (rough, exact))
    assert ours == pytest.approx(theirs, rel=0.03)
    kept = [report.batch_loss for report in rough] + list(state.tensors().values())
    assert {tensor.dtype for tensor in kept} == {torch.float32, torch.float64}       # the clock's figures have 64 bits
    assert evaluate(state.model, a_text(40)) != evaluate(state.model.bfloat16(), a_text(40))


def test_bfloat16_is_for_the_device_alone_and_over_after_the_step(monkeypatch):
    processor_has(monkeypatch, True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    asked = []
    with monkeypatch.context() as patch:                                # torch itself starts it on a GPU that is there only
        patch.setattr(torch, "autocast", lambda *what: asked.append(what) or contextlib.nullcontext())
        for kind in ("cuda", "mps"):
            with device.matrix_products(torch.device(kind), True):
                assert torch.backends.cuda.flash_sdp_enabled()
    assert asked == [("cuda", torch.bfloat16)]
    loop = training_loop(TrainingState(a_model(), SIXTEEN_BITS), a_text(), steps=2)
    next(loop)
    assert not torch.is_autocast_enabled("cpu") and torch.backends.cuda.flash_sdp_enabled()


@pytest.mark.parametrize("kind, able, expected", [
    ("cpu", True, True), ("cpu", False, False), ("cuda", True, True), ("cuda", False, False), ("mps", True, False)])
def test_where_there_is_bfloat16(kind, able, expected, monkeypatch):
    processor_has(monkeypatch, able)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    assert device.has_bfloat16(torch.device(kind)) == expected


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_only_a_gpu_of_nvidias_fetches_from_pinned_memory_while_the_processor_goes_on(kind, monkeypatch):
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: calls.append("pinned") or tensor)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, where, non_blocking: calls.append((where.type, non_blocking)))
    device.moved(torch.zeros(2), torch.device(kind))
    assert calls == (["pinned"] if kind == "cuda" else []) + [(kind, kind == "cuda")]


@pytest.mark.parametrize("kind", ["cpu", "cuda", "mps"])
def test_a_step_is_timed_to_the_end_of_the_devices_work(kind, monkeypatch):
    waited = []
    for name in ("cuda", "mps"):
        monkeypatch.setattr(getattr(torch, name), "synchronize", lambda name=name: waited.append(name))
    device.wait_for(torch.device(kind))
    assert waited == ([] if kind == "cpu" else [kind])
