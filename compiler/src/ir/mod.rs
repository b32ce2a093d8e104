//! The typed intermediate representation: values, operations, regions, entries, states.
