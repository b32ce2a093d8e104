//! Regions built by hand, evaluated, and compared with what their operations say.
