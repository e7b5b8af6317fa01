"""What all tests share."""

import os

# Tests run small networks, often several processes at once, where a second thread costs more than it brings.
os.environ["OMP_NUM_THREADS"] = "1"
