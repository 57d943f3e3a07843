"""Measurements anyone can repeat, and what they printed."""
