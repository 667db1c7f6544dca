"""Fine-tune a ResNet, see what it looks at, and see what its residual blocks do."""
