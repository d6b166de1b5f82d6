"""A model of how good parts look, learned from them alone."""
