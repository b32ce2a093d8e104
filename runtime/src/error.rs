//! Everything that can go wrong while a model runs.

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The model lacks what the caller asks of it.
    #[error("the model has no {0}")]
    Missing(String),
    /// An input outside of the range its graph declares.
    #[error("{name} is {value}, it must lie in {least}..={most}")]
    Range { name: String, value: f64, least: f64, most: f64 },
    /// Predictions that the stream cannot take.
    #[error(
        "the model predicts {vocabulary} elements and its stream takes {least}..={most}: after {element} it could not go on"
    )]
    Unfed { vocabulary: usize, element: u32, least: f64, most: f64 },
    /// An input of another size.
    #[error("{name} takes {expected} bytes a row, it is given {found}")]
    Size { name: String, expected: usize, found: usize },
    /// A check of the graph failed in a step.
    #[error("{0}")]
    Check(String),
    /// A call was refused by the code itself.
    #[error("the entry `{entry}` failed with code {code}")]
    Code { entry: String, code: i32 },
    /// The operating system gave no memory.
    #[error("cannot have {bytes} bytes of memory: {source}{}", crate::system::words())]
    Memory { bytes: usize, source: std::io::Error },
    /// A limit of the caller's.
    #[error("{what}: {value} is above the limit of {limit}")]
    Limit { what: &'static str, value: usize, limit: usize },
    /// There is nothing yet from which the next element could be predicted.
    #[error("the prompt is empty and this model has no start element")]
    EmptyPrompt,
    /// Logits by which nothing can be chosen or measured.
    #[error("the logits are not finite: in step {step}, counted from 0, the one of {index} is {value}")]
    NotFinite { step: usize, index: usize, value: f32 },
    /// Sampling options that mean nothing.
    #[error("{0}")]
    Options(String),
    /// The engine behind the entry failed.
    #[error("{0}")]
    Engine(String),
}

/// A result of the runtime.
pub type Result<T> = std::result::Result<T, Error>;
