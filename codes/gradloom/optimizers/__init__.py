"""Optimizers beside torch's: one file each, named like what `optimizer:` calls it. What begins with `_` is shared."""
