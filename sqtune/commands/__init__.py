"""Commands beside those of the straight line; `sqtune.cli` lists them all."""
