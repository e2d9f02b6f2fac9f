"""Readers of logged and simulated drives, and the samples that training draws from them."""
