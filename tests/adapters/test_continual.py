"""C-LoRA's adapter: what earlier concepts keep, the self-regularization, and the count of a concept's parameters."""

import copy
from itertools import pairwise

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn

from pipelines.adapters import Concept, Continual, LoRA
from pipelines.adapters.core import injected, merged, save_adapter
from pipelines.adapters.registry import load_adapter
from pipelines.adapters.textual_inversion import TABLE
from pipelines.models.base import Base
from pipelines.models.inspection import family_shapes
from pipelines.models.targets import KEY_VALUE
from pipelines.runs.costs import SIZES
from tests.adapters.test_contract import disturb, predict
from tests.tolerances import assert_close

WORDS = ("zwx", "qev", "pll")


def learned(base: Base, count: int, *, rank: int = 2, seed: int = 0) -> Continual:
    """Return a sequence of ``count`` concepts, each with random factors, not injected."""
    sequence = Continual(concepts=[Concept(WORDS[0], rank=rank)], seed=seed)
    for place in range(count):
        if place:
            sequence = sequence.append(Concept(WORDS[place], rank=rank), base, seed=seed + place)
        with injected(sequence, base):
            disturb(sequence, seed=seed + place)
    return sequence


@pytest.fixture
def three(base: Base) -> Continual:
    return learned(base, 3)


def test_keys_and_values_of_cross_attention_and_the_paper_s_count(base: Base) -> None:
    """32 layers; 792,576 values per concept at rank 16 on Stable Diffusion 1.x, and 19,169,280 for full K and V."""
    sequence = learned(base, 1)
    layers = set(sequence.past() | sequence.append(Concept("qev", rank=2), base).past())
    assert len(layers) == 32
    assert all(key.endswith(KEY_VALUE) for key in layers)
    shapes = {name.removesuffix(".weight"): shape for name, shape in family_shapes("sd1").items()}
    sd1 = [shapes[key] for key in layers]
    assert sum(16 * (wide + text) for wide, text in sd1) == 792_576
    assert sum(wide * text for wide, text in sd1) == 19_169_280
    assert round(16e6 * SIZES["sd1"].rank_values["cross-attention-kv"]) == 792_576


def test_the_first_concept_is_a_plain_lora_of_keys_and_values(base: Base) -> None:
    """L_forget is exactly 0, and the layers are those of a K/V LoRA with the same seed."""
    sequence = Continual(concepts=[Concept("zwx", rank=3)], seed=5)
    plain = LoRA(rank=3, targets="cross-attention-kv", seed=5)
    with injected(sequence, base):
        assert float(sequence.forgetting()) == 0.0
        assert sequence.forgetting_scale == 0.0
        disturb(sequence, seed=1)
        assert float(sequence.forgetting()) == 0.0
        with torch.no_grad():
            live = predict(base)
    with injected(plain, base):
        for parameter, value in zip(plain.parameters(), sequence.parameters(), strict=False):
            parameter.data.copy_(value)
        with torch.no_grad():
            assert torch.equal(predict(base), live)


def test_forgetting_is_the_squared_product_of_the_signed_sum_and_the_new_change(
    base: Base, three: Continual
) -> None:
    """L_forget and its gradient agree with their definitions, computed layer by layer."""
    first, second, third = three.deltas(base)
    sums = {key: first[key] + second[key] for key in first}
    with injected(three, base):
        value = three.forgetting()
        value.backward()
        assert value.dtype == torch.float32
        expected = torch.stack([(sums[key] * third[key]).square().sum() for key in sums])
        assert_close(value.detach(), expected.sum())
        branches = three._loras[-1]._branches
        for key, branch in branches.items():
            total = sums[f"{key}.weight"]
            product = 2 * total.square() * third[f"{key}.weight"]
            assert branch.up.grad is not None
            assert branch.down.grad is not None
            assert_close(branch.up.grad, product @ branch.down.detach().T)
            assert_close(branch.down.grad, branch.up.detach().T @ product)


@torch.no_grad()
def test_forgetting_ignores_the_sign_and_is_zero_where_the_past_is(base: Base) -> None:
    sequence = learned(base, 2)
    state = sequence.state_dict()
    before = float(sequence.forgetting())
    turned = {k: -v if k.startswith("1.") and "lora_B" in k else v for k, v in state.items()}
    sequence.load_state_dict(turned)
    assert float(sequence.forgetting()) == pytest.approx(before, rel=1e-6)
    rows = {  # the first concept changes the upper half of each matrix, the second one the lower half
        key: torch.cat([value[: len(value) // 2], 0 * value[len(value) // 2 :]]) if key.startswith("1.")
        else torch.cat([0 * value[: len(value) // 2], value[len(value) // 2 :]])
        for key, value in state.items() if "lora_B" in key
    }  # fmt: skip
    sequence.load_state_dict(state | rows)
    assert before > 0
    assert float(sequence.forgetting()) == 0.0
    gone = learned(base, 3)
    state = gone.state_dict()
    opposite = {f"2.{k[2:]}": -v if "lora_B" in k else v for k, v in state.items() if k.startswith("1.unet")}
    gone.load_state_dict(state | opposite)
    assert float(gone.forgetting()) == 0.0, "two concepts that cancel leave their entries unprotected"


@pytest.mark.parametrize("factor", [0.01, 100.0])
@torch.no_grad()
def test_the_scaled_term_does_not_depend_on_the_scale_of_the_weights(base: Base, factor: float) -> None:
    """Multiplying every change by a factor leaves λ's scale alone; independent changes of one size cost 1 each."""
    sequence = learned(base, 3, rank=16)
    generator = torch.Generator().manual_seed(0)
    state = sequence.state_dict()
    random = {k: torch.randn(v.shape, generator=generator) for k, v in state.items() if "lora" in k}
    sequence.load_state_dict(state | random)
    before = sequence.forgetting_scale * float(sequence.forgetting())
    scaled = {k: factor * v if "lora_B" in k else v for k, v in sequence.state_dict().items()}
    sequence.load_state_dict(scaled)
    assert sequence.forgetting_scale * float(sequence.forgetting()) == pytest.approx(before, rel=1e-3)
    assert before == pytest.approx(2.0, rel=0.2), "two earlier concepts"


@torch.no_grad()
def test_a_new_concept_starts_where_the_last_one_ended(base: Base) -> None:
    """W + S + 0 equals the finished sequence, live and merged."""
    first = learned(base, 2)
    with injected(first, base):
        before = predict(base)
    after = first.append(Concept("pll", rank=4), base, seed=9)
    with injected(after, base):
        assert_close(predict(base), before)
    with merged(base, [(after, 1.0)]):
        assert_close(predict(base), before)


@torch.no_grad()
def test_it_equals_peft_with_one_active_adapter_per_concept(base: Base, three: Continual) -> None:
    unet = copy.deepcopy(base.unet)
    state = three.state_dict()
    for place in (1, 2, 3):
        config = LoraConfig(r=2, lora_alpha=2, target_modules=r".*\.attn2\.to_[kv]")
        inject_adapter_in_model(config, unet, adapter_name=str(place))
        for name, module in unet.named_modules():
            if hasattr(module, "lora_A"):
                module.lora_A[str(place)].weight.data = state[f"{place}.unet.{name}.lora_A.weight"]
                module.lora_B[str(place)].weight.data = state[f"{place}.unet.{name}.lora_B.weight"]
                module.set_adapter(["1", "2", "3"][:place])
    with injected(three, base):
        contexts = base.encode_prompts(["a photo of zwx"])
        own = predict_with(base.unet, contexts)
    assert_close(predict_with(unet, contexts), own)


def predict_with(unet: nn.Module, contexts: torch.Tensor) -> torch.Tensor:
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return unet(noise, torch.tensor([300]), contexts, return_dict=False)[0]


def test_earlier_concepts_are_frozen_after_every_activation(base: Base, three: Continual) -> None:
    own = {id(parameter) for parameter in three.parameters()}
    for _ in range(2):
        with injected(three, base):
            every = [parameter for part in (*three._loras, *three._words) for parameter in part.parameters()]
            assert [id(one) for one in every if one.requires_grad] == [
                id(one) for one in every if id(one) in own
            ]
            (predict(base).square().mean() + three.forgetting()).backward()
            assert all(one.grad is None for one in every if id(one) not in own)
    assert sum(parameter.numel() for parameter in three.parameters()) == sum(
        value.numel() for name, value in three.state_dict().items() if name.startswith("3.")
    )


def test_earlier_concepts_stay_bit_identical_through_training_and_files(
    base: Base, three: Continual, tmp_path
) -> None:
    before = {name: value for name, value in three.state_dict().items() if not name.startswith("3.")}
    with injected(three, base):
        optimizer = torch.optim.AdamW(three.parameters(), lr=0.1, weight_decay=0.5)
        (predict(base).square().mean() + three.forgetting()).backward()
        optimizer.step()
    save_adapter(tmp_path / "three.safetensors", three, extra={})
    again = load_adapter(tmp_path / "three.safetensors", base)
    assert isinstance(again, Continual)
    state, rows = again.state_dict(), again.vectors()
    assert all(torch.equal(state[name], value) for name, value in before.items())
    assert all(torch.equal(rows[word], three.vectors()[word]) for word in WORDS)
    assert again.concepts == three.concepts
    assert not torch.equal(state["3.token.delta"], learned(base, 3).state_dict()["3.token.delta"])


@torch.no_grad()
def test_any_prefix_is_the_sequence_as_it_was_then(base: Base) -> None:
    """The first t concepts of a file give the pictures of the run of concept t."""
    steps = [learned(base, count) for count in (1, 2, 3)]
    for count, then in enumerate(steps, start=1):
        with injected(then, base):
            expected = predict(base)
        with injected(steps[-1].prefix(count, base), base):
            assert_close(predict(base), expected)
    for shorter, longer in pairwise(steps):
        assert all(
            torch.equal(longer.state_dict()[name], value) for name, value in shorter.state_dict().items()
        )
    with pytest.raises(ValueError, match="has 3 concepts"):
        steps[-1].prefix(4, base)


@torch.no_grad()
def test_one_concatenated_lora_equals_the_sum(base: Base, three: Continual) -> None:
    whole = three.concatenated()
    sums: dict[str, torch.Tensor] = {}
    for delta in three.deltas(base):
        for key, change in delta.items():
            sums[key] = sums[key] + change if key in sums else change
    for key, change in sums.items():
        module = key.removesuffix(".weight")
        down, up = whole[f"{module}.lora_A.weight"], whole[f"{module}.lora_B.weight"]
        assert (down.shape[0], up.shape[1]) == (6, 6)
        assert_close(up @ down, change)


@torch.no_grad()
def test_the_new_token_has_the_scale_of_the_embedding_table(base: Base) -> None:
    made = [Continual(concepts=[Concept("zwx", rank=1)], seed=seed) for seed in range(20)]
    for sequence in made:
        sequence.inject(base).remove()
    rows = [sequence.vectors()["zwx"] for sequence in made]
    table = base.text_encoder.get_input_embeddings().weight
    assert float(torch.cat(rows).std()) == pytest.approx(float(table.std()), rel=0.1)
    assert not torch.equal(rows[0], rows[1])
    ((key, change),) = [each for each in made[0].changes(base) if each[0].startswith(TABLE)]
    assert key == f"{TABLE}.weight"
    assert int(change.abs().sum(dim=1).count_nonzero()) == 1, "no other row changes"


def test_the_start_token_s_gradient_can_be_stopped(base: Base) -> None:
    """The values stay the same; only the start token's keys and values get no gradient."""
    outputs, gradients = [], []
    for detach in (False, True):
        sequence = Continual(concepts=[Concept("zwx", rank=2)], detach_start=detach)
        with injected(sequence, base):
            disturb(sequence, seed=1)
            layer = base.unet.get_submodule("mid_block.attentions.0.transformer_blocks.0.attn2.to_k")
            x = base.encode_prompts(["a photo of zwx"]).clone().requires_grad_(True)
            out = layer(x)
            out.sum().backward()
            outputs.append(out.detach())
            assert x.grad is not None
            gradients.append(x.grad.abs().sum(dim=2)[0])
    assert torch.equal(*outputs)
    assert float(gradients[0][0]) > 0
    assert float(gradients[1][0]) == 0.0
    assert torch.equal(gradients[0][1:], gradients[1][1:])


def test_words_that_cannot_be_told_apart_are_refused(base: Base) -> None:
    with pytest.raises(ValueError, match="have the trigger word 'zwx'"):
        Continual(concepts=[Concept("zwx"), Concept("zwx")])
    with pytest.raises(ValueError, match="at least one concept"):
        Continual(concepts=[])
    with pytest.raises(ValueError, match="and a concept has exactly one"):
        Continual(concepts=[Concept("unpronounceable")]).inject(base)
    with pytest.raises(ValueError, match="does not describe a sequence"):
        Continual.from_header({})
