//! IR to IR: one file per pass; this module is the list.
