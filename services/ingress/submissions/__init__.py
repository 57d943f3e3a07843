"""Brings bulk work to the pools: one process of a node's, of which one leads."""
