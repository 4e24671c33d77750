"""Talking to a trained stage in the terminal: python -m r1jax.chat runs/r1_tiny/all_scenarios."""
