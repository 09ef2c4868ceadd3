"""From nodes to a checked, pruned, drawable plan. Runs nothing."""
