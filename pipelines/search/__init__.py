"""`modelpress search`: which student, pruned how far, at which precision, is best within a budget (docs/search.md)."""
