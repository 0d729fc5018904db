"""ONNX graphs: made of a torch model, made fast, brought into INT8."""
