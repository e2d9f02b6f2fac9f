"""Heading and place, read out from fused features."""
