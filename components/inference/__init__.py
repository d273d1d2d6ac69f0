"""Torch-free predictors over ONNX sessions: the same code on a server, an edge device and in the tests."""

from components.inference.predictor import Predictor, load_predictor

__all__ = ["Predictor", "load_predictor"]
