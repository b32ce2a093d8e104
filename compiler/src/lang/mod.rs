//! The graph language: grammar, syntax tree, names, and elaboration into the IR.
