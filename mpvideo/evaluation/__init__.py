"""How good a checkpoint's videos are: read back by a judge, and compared with real ones as distributions."""
