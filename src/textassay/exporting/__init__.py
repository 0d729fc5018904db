"""The forms that an artifact is shipped in: one merged model, ONNX, ONNX in INT8."""
