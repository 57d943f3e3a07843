"""`penstock demo`: the main job on real data, from an empty folder to a checked summary."""
