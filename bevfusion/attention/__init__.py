"""Attention mechanisms, one idea a file, each `B C H W -> B C H W`."""
