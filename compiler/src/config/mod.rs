//! JSON configs with spans: reading, and the treatment of every key.
