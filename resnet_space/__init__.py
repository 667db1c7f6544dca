"""Fine-tune a ResNet, see what it looks at, and see what its residual blocks do."""

# They register what a configuration may name, without torch.
from resnet_space.training import objectives as objectives
from resnet_space.training import strategies as strategies
