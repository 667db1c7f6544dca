import threading

import pytest
import torch

from resnet_space.config import ModelConfig
from resnet_space.models.unfilled import Unfilled


@pytest.mark.parametrize(
    ("name", "options"), [("resnet20", {"cbam": "stage"}), ("vit_tiny_patch4_32", {}), ("tf_efficientnet_lite0", {})]
)
def test_a_network_has_zeros_where_random_weights_would_be_and_takes_no_random_numbers(
    name: str, options: dict[str, str]
) -> None:
    config = ModelConfig(name, ("cat", "dog"), options=options, image_size=32)
    before = torch.get_rng_state()
    unfilled = config.build_unfilled().state_dict()
    after = torch.get_rng_state()
    one, other = (config.build(seed=seed).state_dict() for seed in (0, 1))
    assert [(n, v.shape, v.dtype) for n, v in unfilled.items()] == [(n, v.shape, v.dtype) for n, v in one.items()]
    random = [name for name in one if not torch.equal(one[name], other[name])]
    assert random
    assert not [name for name in random if unfilled[name].any()]
    assert all(torch.equal(unfilled[name], one[name]) for name in one if name not in random)
    assert torch.equal(before, after)


def test_another_thread_still_gets_random_weights() -> None:
    built: list[torch.nn.Linear] = []
    with Unfilled():
        thread = threading.Thread(target=lambda: built.append(torch.nn.Linear(4, 4)))
        thread.start()
        thread.join()
        assert not torch.nn.Linear(4, 4).weight.any()
    assert built[0].weight.all()
