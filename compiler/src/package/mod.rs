//! Writing the .sterna package.
