"""What a network takes, known before it is trained."""
