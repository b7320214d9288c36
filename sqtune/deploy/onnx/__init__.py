"""Graphs as ONNX files; only here is onnx imported."""
