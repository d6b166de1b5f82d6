"""Where a camera's pixels lie in millimetres, found from pictures of a board."""
