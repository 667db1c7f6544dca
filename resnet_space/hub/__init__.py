"""The Hugging Face Hub: runs go there and come from there."""
