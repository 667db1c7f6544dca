"""The Hugging Face Hub: runs go there and come from there."""

from resnet_space.common.hub_client import HubError
from resnet_space.hub.pull import describe_model, pull_run, search_models
from resnet_space.hub.push import push_run

__all__ = ["HubError", "describe_model", "pull_run", "push_run", "search_models"]
