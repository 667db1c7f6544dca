from torchvision.models import ResNet18_Weights

from resnet_space.common.imagenet import imagenet_classes


def test_the_classes_are_those_that_torchvision_gives_its_weights() -> None:
    assert imagenet_classes() == tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])
