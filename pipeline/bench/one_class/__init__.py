"""Methods that learn from good pictures alone, held against each other on the same splits."""
