"""Base models, the methods that tune them, and logits."""
