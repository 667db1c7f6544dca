"""What the explore tab says of a result, from numbers made by hand."""

import math

from resnet_space.plots.residuals.depth import Block
from resnet_space.ui.explore.comparing import compare_words, gradients_words, removed_words
from resnet_space.ui.explore.growth import growth_words
from resnet_space.ui.explore.scores import Score, accuracy_words
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
    told = plain(norms_words(BLOCKS, [0.9, 0.5, 2.0, 0.08, 0.3]))
    assert told.startswith("Of the 4 blocks with an identity shortcut, **layer1.0** changes its input most (‖F(x)‖ is")
    assert "is 90 % of ‖x‖) and **layer2.1** least (8 %, nearly an identity)." in told
    assert "fills new channels: layer2.0 200 %." in told  # where the shape changes
    assert "falls in 1 of 2 stages: layer1 from 0.90 to 0.50; layer2 from 0.08 to 0.30" in told
    assert "In 2 blocks, ‖F(x)‖ is below 10 % of ‖x‖" in plain(norms_words(BLOCKS, [0.9, 0.05, 2.0, 0.08, 0.3]))
    assert "falls in every stage" in norms_words(BLOCKS, [0.9, 0.5, 2.0, 0.4, 0.3])
    assert "rises in every stage" in norms_words(BLOCKS, [0.4, 0.5, 2.0, 0.2, 0.3])
    assert "nearly" not in norms_words(BLOCKS, [0.4, 0.5, 2.0, 0.2, 0.3])


def plain(words: str) -> str:
    """With spaces at which lines may break."""
    return words.replace("\u00a0", " ")


def test_without_a_ratio_nothing_is_said_of_one() -> None:
    assert norms_words(BLOCKS[:1], [math.nan]) == ""
    assert "no shortcut" in plain_words(9)


def test_a_transformers_two_branches_are_told_apart() -> None:
    names = [f"blocks.{i}.{part}" for i in range(3) for part in ("attention", "MLP")]
    blocks = [Block(name) for name in names]
    told = plain(norms_words(blocks, [0.4, 0.8, 0.2, 0.5, 0.1, 0.05], ["attention", "MLP"] * 3, "residual branches"))
    assert "Of the 6 residual branches with an identity shortcut, **blocks.0.MLP** changes its input most" in told
    assert "attention branch: ‖F(x)‖ is 40 % of ‖x‖ in the first block, 10 % in the last; the median is 20 %." in told
    assert "MLP branch: ‖F(x)‖ is 80 % of ‖x‖ in the first block, 5 % in the last; the median is 50 %." in told
    assert "Jastrzębski" not in told  # who measured ResNets


def test_directions_are_along_against_or_across() -> None:
    told = direction_words(NAMES, [-0.4, 0.05, math.nan, 0.3, -0.01])
    assert "In **layer1.0**, F(x) opposes x most (cosine -0.40)" in told
    assert "In **layer2.1**, F(x) is most aligned with x (+0.30)" in told
    assert "In 2 of 4 blocks, F(x) is nearly orthogonal to x" in told
    downhill = alignment_words(NAMES, [-0.1, 0.02, math.nan, -0.2, 0.1])
    assert "In 2 of 4 blocks, F(x) points against the gradient" in downhill
    assert "strongest in **layer2.1** (-0.200)" in downhill
    assert "opposes" not in direction_words(NAMES[:1], [math.nan])


def test_layer_outputs_name_the_largest_and_the_smallest() -> None:
    told = responses_words(["conv1", "layer1.0.conv1", "layer1.0.conv2"], [1.0, 0.25, 1.75])
    assert "The standard deviation over the 3 layers is 1.00 on average" in told
    assert "largest in **layer1.0.conv2** (1.75) and smallest in **layer1.0.conv1** (0.25)" in told
    assert "is not a ResNet" in responses_words([], [])


def test_removed_blocks_say_which_matters_most_and_what_can_go() -> None:
    told = plain(lesion_words(NAMES, [0.1, 0.745, 0.3, 0.75, 0.7], 0.75, 200))
    assert "**layer1.0** matters most: without it, the accuracy falls from 75.0 % to 10.0 %." in told
    assert "**layer2.1** matters least: 75.0 % without it." in told
    assert "Removing any one of 2 of the 5 blocks costs less than a point. One image is 0.5 %." in told
    several = plain(several_words([1, 2, 3], [0.7, 0.5, 0.2], 0.75, 9))
    assert "with 3 removed, it falls below half of the intact 75.0 %." in several
    assert "stays above half" in several_words([1, 2], [0.7, 0.5], 0.75, 9)
    assert "less than half" in several_words([1, 2], [0.3, 0.2], 0.75, 9)
    swapped = plain(swapped_words(["a and b", "b and c"], [0.5, 0.7], 0.75))
    assert "swapping **b and c** costs least (from 75.0 % to 70.0 %) and **a and b** most (to 50.0 %)" in swapped


def test_early_answers_say_where_the_answer_is_formed() -> None:
    told = plain(early_words(["layer3.0", "layer3.1", "layer3.2"], [0.2, 0.6, 0.75], [0.25, 0.7, 1.0]))
    assert "After **layer3.0**, the head classifies 20.0 % of the images correctly" in told
    assert "the final answer for 25.0 %; after the last block, **layer3.2**, 75.0 % are correct." in told
    assert "**layer3.1** contributes most: +40.0 points." in told
    assert "only one block" in early_words(["layer3.0"], [0.75], [1.0])


def test_the_gradient_is_compared_from_the_last_block_to_the_first() -> None:
    told = gradient_words(NAMES[:2], [0.2, 0.1], [1e-5, 0.1], [math.nan, math.nan])
    assert "At the first block (**layer1.0**), the gradient is 2 times as large as at the last (**layer1.1**)." in told
    assert "Through the residual branches only, it is 0.0001 times as large." in told
    assert "Without shortcuts" not in told


def test_growth_names_the_block_that_changed_most() -> None:
    told = growth_words(NAMES[:3], [0, 1, 2], [[0.2, 0.5, 1.0], [9, 9, 9], [0.3, 0.1, 1.1]])
    assert "**layer1.1** changed most: from 0.50 before training to 0.10 after epoch 2." in told
    assert "The ratio rose in 2 of 3 blocks." in told
    assert growth_words(NAMES, [1], [[0.1] * 5]) == "Only one epoch is recorded so far."


def test_a_comparison_names_the_blocks_that_changed_most() -> None:
    first = {"layer1.0": 0.5, "layer1.1": 0.4, "layer2.0": 0.2, "layer2.1": 0.1}
    tuned = {"layer1.0": 0.5, "layer1.1": 0.2, "layer2.0": 0.3, "layer2.1": 0.8}
    told = compare_words({"before": first, "after": tuned})
    assert "From before to **after**, the ratio ‖F(x)‖ / ‖x‖ changes most in **layer2.1** (0.10 → 0.80)" in told
    assert "least in layer1.0 (0.50 → 0.50). It rises in 2 of 4 blocks." in told
    assert "hardly differ" in compare_words({"a": first, "b": dict(first)})
    deeper = compare_words({"a": first, "b": {"layer1.0": 0.2, "layer1.1": 0.4}})
    assert "**b** has 2 blocks and **a** 4; the mean ratio ‖F(x)‖ / ‖x‖ is 0.30 and 0.30." in deeper


def test_a_comparison_leads_with_accuracy_of_which_other_test_sets_are_not_compared() -> None:
    tests = {
        "deep": Score("test images from cifar10", 744, 1_000),
        "flat": Score("test images from cifar10", 406, 1_000),
    }
    told = plain(accuracy_words(tests))
    assert "**deep** classifies 744 of 1,000 test images from cifar10 correctly: 74.4 % (71.6 to 77.0 %)." in told
    assert told.endswith("That is 33.8 points more than flat.")
    other = {**tests, "pets": Score("test images from pets", 1, 10)}
    assert accuracy_words(other).endswith("These test sets differ, so the accuracies are not comparable.")
    assert gradients_words({"deep": [0.2, 0.1], "none": [0.0, 0.0]}) == (
        "Gradient at the first block relative to the last: 2 in deep."
    )
    removed = plain(removed_words({"deep": (0.75, [0.7, 0.6]), "flat": (0.4, [0.1, 0.1])}))
    assert removed.startswith("Removing one block costs on average 10.0 points in deep (intact: 75.0 %); 30.0 points")
