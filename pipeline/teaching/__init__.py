"""A product taught from pictures of good parts alone."""
