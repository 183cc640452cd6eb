"""Measuring a model under load."""
