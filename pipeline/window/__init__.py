"""A recorded window: every frame of a time on the line, to be run again bit for bit. ``format`` says what lies on disk."""
