"""The Hugging Face Hub: push and pull runs."""

from resnet_space.common.hub_client import HubError
from resnet_space.hub.pull import describe_model, pull_run, search_models
from resnet_space.hub.push import push_run

__all__ = ["HubError", "describe_model", "pull_run", "push_run", "search_models"]
