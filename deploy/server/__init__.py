"""`modelpress serve`: bundles behind HTTP, for programs (Open Inference Protocol v2) and for people."""
