"""Evaluation of drives, tables and plots."""
