"""What the explore tab says of a result, from numbers made by hand."""

import math

from resnet_space.plots.residuals.depth import Block
from resnet_space.ui.explore.compare import compare_words
from resnet_space.ui.explore.growth import growth_words
from resnet_space.ui.explore.views.direction import alignment_words, direction_words
from resnet_space.ui.explore.views.early import early_words
from resnet_space.ui.explore.views.gradient import gradient_words
from resnet_space.ui.explore.views.lesion import lesion_words, several_words, swapped_words
from resnet_space.ui.explore.views.norms import norms_words, plain_words
from resnet_space.ui.explore.views.responses import responses_words

BLOCKS = [Block("layer1.0"), Block("layer1.1"), Block("layer2.0", identity=False, stage=1)]
BLOCKS += [Block("layer2.1", stage=1), Block("layer2.2", stage=1)]
NAMES = [block.name for block in BLOCKS]


def test_the_blocks_that_change_their_input_most_and_least_are_named_with_their_share() -> None:
    told = norms_words("a-run on 64 images", BLOCKS, [0.9, 0.5, 2.0, 0.08, 0.3])
    assert told.startswith(
        "**a-run on 64 images.** Of the 4 blocks that keep x's shape, **layer1.0** changes its input"
    )
    assert "by 90% of its length, and **layer2.1** least, by 8%: nearly an identity." in told
    assert "layer2.0 by 200%" in told  # where the shape changes
    assert "falls in 1 of 2 stages: layer1 from 0.90 to 0.50; layer2 from 0.08 to 0.30" in told
    assert "2 blocks are nearly identities" in norms_words("x", BLOCKS, [0.9, 0.05, 2.0, 0.08, 0.3])
    assert "falls in every stage" in norms_words("x", BLOCKS, [0.9, 0.5, 2.0, 0.4, 0.3])
    assert "rises in every stage" in norms_words("x", BLOCKS, [0.4, 0.5, 2.0, 0.2, 0.3])
    assert "identit" not in norms_words("x", BLOCKS, [0.4, 0.5, 2.0, 0.2, 0.3])


def test_without_a_ratio_nothing_is_said_of_one() -> None:
    assert norms_words("x", BLOCKS[:1], [math.nan]) == "**x.**"
    assert "no shortcut" in plain_words("x", 9)


def test_directions_are_along_against_or_across() -> None:
    told = direction_words(NAMES, [-0.4, 0.05, math.nan, 0.3, -0.01])
    assert "**layer1.0** points most against x (cosine -0.40)" in told
    assert "**layer2.1** points most along x (+0.30)" in told
    assert "In 2 of 4 blocks F(x) is nearly at a right angle" in told
    downhill = alignment_words(NAMES, [-0.1, 0.02, math.nan, -0.2, 0.1])
    assert "In 2 of 4 blocks F(x) points against the gradient" in downhill
    assert "**layer2.1** does so most (-0.200)" in downhill
    assert "against" not in direction_words(NAMES[:1], [math.nan])


def test_responses_name_the_loudest_and_the_softest_layer() -> None:
    told = responses_words(["conv1", "layer1.0.conv1", "layer1.0.conv2"], [1.0, 0.25, 1.75])
    assert "The 3 layers respond with a standard deviation of 1.00 on average" in told
    assert "**layer1.0.conv2** most (1.75), **layer1.0.conv1** least (0.25)" in told
    assert "this network is none" in responses_words([], [])


def test_lesions_say_what_is_needed_most_and_what_can_go() -> None:
    told = lesion_words(NAMES, [0.1, 0.745, 0.3, 0.75, 0.7], 0.75, 200)
    assert "Whole, it is right for 75.0%. Without **layer1.0** only for 10.0%" in told
    assert "Without **layer2.1** it is still right for 75.0%" in told
    assert "2 of 5 blocks can go at a cost of less than a point each. One image is 0.5% here." in told
    assert "falls below half of the whole network's 75.0% with 3." in several_words([1, 2, 3], [0.7, 0.5, 0.2], 0.75, 9)
    assert "stays above half" in several_words([1, 2], [0.7, 0.5], 0.75, 9)
    assert "less than half" in several_words([1, 2], [0.3, 0.2], 0.75, 9)
    swapped = swapped_words(["a and b", "b and c"], [0.5, 0.7], 0.75)
    assert "exchanging **b and c** hurts least (75.0% becomes 70.0%) and **a and b** most (50.0%)" in swapped


def test_early_readings_say_where_the_answer_is_formed() -> None:
    told = early_words(["layer3.0", "layer3.1", "layer3.2"], [0.2, 0.6, 0.75], [0.25, 0.7, 1.0])
    assert "Read after **layer3.0**, the head is right for 20.0%" in told
    assert "for 25.0%; after the last block, **layer3.2**, it is right for 75.0%" in told
    assert "**layer3.1** adds most: +40.0 points." in told
    assert "one block only" in early_words(["layer3.0"], [0.75], [1.0])


def test_the_gradient_is_compared_from_the_last_block_to_the_first() -> None:
    told = gradient_words(NAMES[:2], [0.2, 0.1], [1e-5, 0.1], [math.nan, math.nan])
    assert "From the last block (**layer1.1**) to the first (**layer1.0**) the gradient becomes 2 times" in told
    assert "Through the branches only, past no shortcut, it becomes 0.0001 times" in told
    assert "plain network" not in told


def test_growth_names_the_block_that_changed_most() -> None:
    told = growth_words(NAMES[:3], [0, 1, 2], [[0.2, 0.5, 1.0], [9, 9, 9], [0.3, 0.1, 1.1]])
    assert "**layer1.1** changed most: its ratio was 0.50 before training and is 0.10 after epoch 2" in told
    assert "2 of 3 blocks change their input more than at first" in told
    assert growth_words(NAMES, [1], [[0.1] * 5]) == "One epoch is recorded so far."


def test_a_comparison_names_the_blocks_that_changed_most() -> None:
    first = {"layer1.0": 0.5, "layer1.1": 0.4, "layer2.0": 0.2, "layer2.1": 0.1}
    tuned = {"layer1.0": 0.5, "layer1.1": 0.2, "layer2.0": 0.3, "layer2.1": 0.8}
    told = compare_words({"before": first, "after": tuned})
    assert "From before to **after** these blocks changed most: **layer2.1** (0.10 → 0.80), **layer1.1** (0.40" in told
    assert "least layer1.0 (0.50 → 0.50). 2 of 4 change their input more" in told
    assert "hardly differ" in compare_words({"a": first, "b": dict(first)})
    deeper = compare_words({"a": first, "b": {"layer1.0": 0.2, "layer1.1": 0.4}})
    assert "**b** has 2 blocks and **a** 4: on average over the blocks the ratio is 0.30 there and 0.30 here" in deeper
