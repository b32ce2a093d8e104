//! What can go wrong when a verified graph is evaluated.

use crate::ir::Origin;

/// A fault with the place in the model's text whose evaluation met it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{fault}")]
pub struct InterpError {
    pub fault: Fault,
    /// Absent where no node is to blame (arguments, weights).
    pub origin: Option<Box<Origin>>,
}

/// The kinds of fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("{0}")]
    Check(String),
    #[error("{state} already holds its {capacity} entries")]
    Overflow { state: String, capacity: usize },
    #[error("no value was given for {0}")]
    MissingArgument(String),
    #[error("{name} needs {expected}, not {got}")]
    BadArgument { name: String, expected: String, got: String },
    #[error("{name} must lie in {low}..={high}, not {value}")]
    OutOfRange { name: String, value: f64, low: f64, high: f64 },
    #[error("there is no weight {0}")]
    MissingWeight(String),
    #[error("there is no state {0}")]
    MissingState(String),
    #[error("{0}")]
    Shape(String),
    #[error("{op} is not defined for {elem} elements")]
    Element { op: &'static str, elem: &'static str },
    #[error("a value of {0} elements is too large to evaluate")]
    TooLarge(u128),
}

impl From<Fault> for InterpError {
    fn from(fault: Fault) -> InterpError {
        InterpError { fault, origin: None }
    }
}

impl InterpError {
    /// Names the place, unless an inner one was named before.
    pub(super) fn at(mut self, origin: Option<&Origin>) -> InterpError {
        if self.origin.is_none() {
            self.origin = origin.cloned().map(Box::new);
        }
        self
    }
}
