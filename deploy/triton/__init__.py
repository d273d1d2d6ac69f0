"""Bundles as models of NVIDIA Triton Inference Server."""
