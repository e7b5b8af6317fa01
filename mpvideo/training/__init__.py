"""Training: what makes a checkpoint. Sources: EDM2 (arXiv 2312.02696) and EDM (arXiv 2206.00364)."""
