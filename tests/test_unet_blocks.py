"""The block map against the live UNet, and block weight strings in the format of kohya and A1111."""

import pytest

from pipelines.unet_blocks import (
    BLOCKS,
    LISTS,
    POSITIONS,
    TEXT,
    BlockStrengths,
    block,
    position,
    unet_modules,
)

ONES = ",".join(["1"] * 26)
# The layers that must be at each position, derived from kohya's value counts (LoRA, rank 1: METHODS 5.4).
ATTENTION_AT = {"IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "M00", *(f"OUT{i:02d}" for i in range(3, 12))}
SAMPLERS = {
    "down_blocks.0.downsamplers.0.conv": ("IN03", "In0"),
    "down_blocks.2.downsamplers.0.conv": ("IN09", "In2"),
    "up_blocks.0.upsamplers.0.conv": ("OUT02", "Out0"),
    "up_blocks.2.upsamplers.0.conv": ("OUT08", "Out2"),
}


def test_every_layer_has_its_place():
    places = {name: position(f"unet.{name}") for name in unet_modules()}
    assert set(places.values()) == set(POSITIONS)
    with_attention = {place for name, place in places.items() if ".attentions." in name}
    assert with_attention == ATTENTION_AT
    assert {name: (places[name], block(name)) for name in SAMPLERS} == SAMPLERS
    assert places["mid_block.resnets.1.conv1"] == "M00"
    assert places["down_blocks.3.resnets.1.conv2"] == "IN11"
    assert places["up_blocks.3.attentions.2.proj_in"] == "OUT11"
    assert {block(name) for name in unet_modules()} == {*BLOCKS, ""}
    assert position("text_encoder.encoder.layers.0.mlp.fc1") == TEXT
    assert position("mid_block.resnets.1.conv1.weight") == "M00"
    with pytest.raises(ValueError, match="is not a layer"):
        position("unet.double_blocks.0.conv")


@pytest.mark.parametrize("count", [9, 17, 25, 26])
def test_lists_come_back_as_they_were_written(count):
    text = ",".join(str(index % 5 / 4) for index in range(count))
    strengths = BlockStrengths.parse(text)
    assert strengths.format(count).split(",") == [f"{float(entry):g}" for entry in text.split(",")]
    assert BlockStrengths.parse(strengths.format(26)) == strengths


def test_a_weight_of_many_digits_is_written_as_it_was():
    text = ",".join(["0.3333333333", "-0.12345678"] * 13)
    assert BlockStrengths.parse(text).format(26) == text


def test_what_a_list_stands_for():
    seventeen = BlockStrengths.parse("0.5,1,2,0,0,0,0,0.25,0,0,0,0,0,0,0,0,1.5")
    assert seventeen.at("text_encoder.encoder.layers.1.mlp.fc2") == 0.5
    assert seventeen.at("unet.down_blocks.0.attentions.0.proj_in") == 1
    assert seventeen.at("unet.down_blocks.0.attentions.1.proj_in.weight") == 2
    assert seventeen.at("unet.mid_block.attentions.0.proj_in") == 0.25
    assert seventeen.at("unet.up_blocks.3.attentions.2.proj_in") == 1.5
    assert seventeen.at("unet.down_blocks.0.downsamplers.0.conv") == 0  # at no position of a 17-value list
    nine = BlockStrengths.parse("0,0,0,0,0.5,0,0,0,2")
    assert nine.at("unet.mid_block.resnets.0.conv1") == 0.5
    assert nine.at("unet.up_blocks.3.resnets.0.conv1") == 2
    assert (
        nine.at("unet.up_blocks.0.upsamplers.0.conv"),
        nine.at("text_encoder.encoder.layers.0.mlp.fc1"),
    ) == (0, 1)
    kohya = BlockStrengths.parse("0," + ",".join(["1"] * 24))
    assert all(kohya.at(f"unet.{name}") == 1 for name in unet_modules() if block(name))
    assert BlockStrengths.parse("") == BlockStrengths.parse(ONES) == BlockStrengths()
    assert set(BlockStrengths.parse(ONES.replace("1", "0")).values) == {0.0}
    assert BlockStrengths.parse(ONES).times(0.5).values == (0.5,) * 26
    assert BlockStrengths.of_blocks({"Mid": 0.0}).format(9) == "1,1,1,1,0,1,1,1,1"


def test_lists_of_17_and_26_agree_on_what_a_plain_lora_has():
    seventeen = [f"{1.05 + index / 20:g}" for index in range(17)]
    numbers = dict(zip(LISTS[17], seventeen, strict=True))
    short = BlockStrengths.parse(",".join(seventeen))
    long = BlockStrengths.parse(",".join(numbers.get(place, "0.3") for place in LISTS[26]))
    attention = [f"unet.{name}" for name in unet_modules() if ".attentions." in name]
    assert len(attention) == 192
    for key in (*attention, "text_encoder.encoder.layers.0.mlp.fc1"):
        assert short.at(key) == long.at(key) >= 1.0
    assert len({short.at(key) for key in attention}) == 16
    assert long.format(17, plain=True) == short.format(17) == ",".join(seventeen)
    with pytest.raises(ValueError, match="17 values cannot express"):
        long.format(17)
    with pytest.raises(ValueError, match="25 values cannot express"):
        long.format(25, plain=True)  # the text encoder's weight is not 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1,1", "2 block weights fit no list"),
        (",".join(["1"] * 12), "one for SDXL"),
        (",".join(["1"] * 20), "one for SDXL"),
        (ONES.replace("1", "R", 1), "'R' is not a number"),
        (ONES.replace("1", "nan", 1), "'nan' is not a number"),
        (ONES.replace("1", "3", 1), "'3' is not a number between"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        BlockStrengths.parse(text)


def test_a_list_too_short_for_its_weights_is_refused():
    strengths = BlockStrengths.parse(ONES.replace("1", "0.5", 1))  # the text encoder's weight is 0.5
    with pytest.raises(ValueError, match="25 values cannot express"):
        strengths.format(25)
    with pytest.raises(ValueError, match="17 values cannot express"):
        BlockStrengths().format(17)  # these blocks are 1, but a 17-value list implies 0
    with pytest.raises(ValueError, match="no list of 10"):
        strengths.format(10)
    with pytest.raises(ValueError, match="no block 'In9'"):
        BlockStrengths.of_blocks({"In9": 1.0})
