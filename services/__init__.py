"""Penstock: model serving over a stream."""
