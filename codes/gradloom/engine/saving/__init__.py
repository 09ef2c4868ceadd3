"""What stays of a run: checkpoints that are whole or not there, and weights by themselves."""
