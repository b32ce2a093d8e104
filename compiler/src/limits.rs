//! What input may cost at most. Graphs, configs and packages may come from anywhere, so everything that grows with them
//! has a bound here: met, it is an error that names the place, long before memory or patience ends. The bounds are far
//! above any model of use. How each is applied is said where it is met; the table in spec/language.md lists them for
//! authors.

/// All limits, each with its unit and what it guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a graph file, or of a config: reading and drawing them.
    pub file: usize,
    /// Statements of a graph file: the tables of names and what is looked up in them.
    pub statements: usize,
    /// Brackets inside one another in a graph file, levels of a config, lists inside one another: recursion over them.
    pub nesting: usize,
    /// Operations inside one another in an expression: recursion over its tree.
    pub expression: usize,
    /// Blocks and names of model level evaluated inside one another: recursion of the elaborator.
    pub calls: usize,
    /// Branches and loops of the step inside one another: recursion over regions everywhere.
    pub regions: usize,
    /// Expressions evaluated, and elements of static lists looked at: the time of elaboration.
    pub evaluations: usize,
    /// Bytes of one static text that is put together.
    pub text: usize,
    /// Elements of a static list with the lists inside it, and rounds of a `for`.
    pub list: usize,
    /// Instances of blocks.
    pub parts: usize,
    /// Weights, and states, of a model.
    pub declared: usize,
    /// Nodes of all regions together: the time of passes and compilation.
    pub nodes: usize,
    /// Axes of one value.
    pub rank: usize,
    /// Elements of one tensor: arithmetic on sizes and offsets.
    pub elements: usize,
    /// Elements of one value that a step computes, what weights store aside: memory between kernels.
    pub value: usize,
    /// Elements of all values that a step computes, those of rounds as often as they may run: the time of a step. A
    /// search for the k largest counts the axis k times, a product one element for 256 of its terms.
    pub work: usize,
    /// Bytes of all constants of a model.
    pub constants: usize,
    /// Bytes of all weights of a model, as the widest of their forms in memory.
    pub weights: usize,
    /// Rounds of the `repeat`s around a place, multiplied.
    pub rounds: usize,
    /// Entries of a growing axis: counters and offsets fit their types.
    pub entries: usize,
    /// Bytes of all states of one stream, rounds and caches included.
    pub states: usize,
    /// Columns of a row of codes in an integer product: its i32 total cannot overflow. Codes weigh up to 128 in the
    /// accumulators, activations up to 127.
    pub code_columns: usize,
    /// The same for weights of a byte each.
    pub byte_columns: usize,
    /// Bytes of one row of a float product.
    pub row: usize,
    /// Steps of a kernel: the time and memory of its compilation.
    pub steps: usize,
    /// Instructions of a kernel.
    pub instructions: usize,
    /// Views, and values that do not depend on the step, read through one another: recursion of the lowering.
    pub chain: usize,
    /// Bytes that the scratch memory of a call may need.
    pub scratch: usize,
    /// Bytes of memory for weights that no file has: random ones, of a size that a config alone says.
    pub resident: usize,
}

impl Limits {
    /// The limits that hold where no others are asked for.
    pub const DEFAULT: Limits = Limits {
        file: 1 << 20,
        statements: 100_000,
        nesting: 64,
        expression: 256,
        calls: 64,
        regions: 64,
        evaluations: 10_000_000,
        text: 1 << 12,
        list: 1 << 20,
        parts: 1 << 17,
        declared: 1 << 18,
        nodes: 1 << 18,
        rank: 16,
        elements: 1 << 40,
        value: 1 << 26,
        work: 1 << 30,
        constants: 1 << 26,
        weights: 1 << 40,
        rounds: 1 << 14,
        entries: 1 << 30,
        states: 1 << 38,
        code_columns: 524_288,
        byte_columns: 131_072,
        row: 1 << 26,
        steps: 1 << 14,
        instructions: 1 << 19,
        chain: 512,
        scratch: 1 << 33,
        resident: 1 << 33,
    };
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::DEFAULT
    }
}
