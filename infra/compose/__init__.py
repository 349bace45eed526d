"""Driving the Compose stack from outside, and what only exists inside it."""
