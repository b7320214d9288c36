"""What the user takes away: sizes (and, one day, packed files)."""
