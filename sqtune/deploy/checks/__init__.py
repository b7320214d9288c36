"""What checks an exported folder with numpy and ONNX Runtime alone."""
