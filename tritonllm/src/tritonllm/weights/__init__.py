"""Weights: from the Hub to a verified directory on a volume, once."""
