"""What a run is fed: batches in an order that follows from the seed, drawn by workers, with bad samples named."""
