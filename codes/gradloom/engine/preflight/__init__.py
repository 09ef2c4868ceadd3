"""Find what would go wrong in a run before a single weight is made.

Data is opened and one sample of it decoded; from then on everything is followed on torch's device "meta", whose
tensors have a shape and a dtype but no values, so that it costs little however large the networks are.
"""
