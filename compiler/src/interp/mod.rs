//! The meaning of the IR: a plain evaluator, the oracle of everything compiled.
