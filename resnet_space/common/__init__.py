"""Shared by all layers: text, faults, threads, hardware, the Hub client."""
