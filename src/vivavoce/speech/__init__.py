"""Hearing: sound to phone features on the frame grid, and the making of labelled speech to learn it from."""
