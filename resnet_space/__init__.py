"""Fine-tune a ResNet, see what it looks at, and see what its residual blocks do."""

from resnet_space.training import objectives as objectives  # registers what a configuration may name; without torch
