"""The chaos suite: the real service between simulators that keep their own books, while things go wrong."""
