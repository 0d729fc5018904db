"""A classifier with fewer heads and units: what matters, what is cut, how it recovers."""
