"""Ingress: turns HTTP into records of a pool's topic, and replies back into HTTP."""
