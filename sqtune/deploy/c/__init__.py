"""Graphs as C99: the writer, and the small functions (.c) that it puts together."""
