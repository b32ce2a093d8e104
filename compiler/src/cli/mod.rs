//! One file per command of sterna; no logic lives here.
