"""Training by Lightning."""
