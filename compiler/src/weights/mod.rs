//! Checkpoint files: named tensors that stay on disk until they are read.
