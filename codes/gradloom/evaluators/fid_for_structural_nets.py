"""The FID of enlarged images."""

from gradloom.evaluators._enlarged import Enlarged


class FidForStructuralNets(Enlarged, type="fid_for_structural_nets"):
    """Measures how far what a generator makes of each `lq` of a dataset is from its `hq`, by the FID.

    All images lie in `range` (Heusel et al. 2017, arXiv 1706.08500).
    """
