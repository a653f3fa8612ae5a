"""What gpuplan remembers: the snapshot, the write-ahead journal, the lock, and the backends that keep them."""
