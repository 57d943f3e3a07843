"""Scaler: keeps the pools as the control log wants them and as large as their load needs."""
