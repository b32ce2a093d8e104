//! Programs as trees: what the generator makes, the shrinker cuts down and [`super::render`] writes as text. Every
//! expression knows its type, so that another of the type can stand in its place; names are unique in a program, so
//! that they can be counted and replaced without scopes.

/// Elements of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Elem {
    F32,
    I32,
    U32,
    U64,
    I8,
    U8,
    Bool,
}

impl Elem {
    /// The name in the language.
    pub fn name(self) -> &'static str {
        match self {
            Elem::F32 => "f32",
            Elem::I32 => "i32",
            Elem::U32 => "u32",
            Elem::U64 => "u64",
            Elem::I8 => "i8",
            Elem::U8 => "u8",
            Elem::Bool => "bool",
        }
    }
}

/// An axis: a length, or the entries of a group of growing states, by the group's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim {
    Fixed(usize),
    Grows(usize),
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Type {
    pub elem: Elem,
    pub shape: Vec<Dim>,
}

impl Type {
    /// With axes of these lengths.
    pub fn of(elem: Elem, shape: &[usize]) -> Type {
        Type { elem, shape: shape.iter().map(|&n| Dim::Fixed(n)).collect() }
    }

    /// Floats.
    pub fn f32(shape: &[usize]) -> Type {
        Type::of(Elem::F32, shape)
    }

    /// One value.
    pub fn scalar(elem: Elem) -> Type {
        Type::of(elem, &[])
    }

    /// The same axes with another element.
    pub fn with(&self, elem: Elem) -> Type {
        Type { elem, shape: self.shape.clone() }
    }

    /// The lengths, if none grows.
    pub fn fixed(&self) -> Option<Vec<usize>> {
        let length = |dim: &Dim| match dim {
            Dim::Fixed(n) => Some(*n),
            Dim::Grows(_) => None,
        };
        self.shape.iter().map(length).collect()
    }

    /// The type as a parameter or result declares it; nothing grows there.
    pub fn text(&self) -> String {
        let lengths = self.fixed().unwrap_or_default();
        format!("{}{}", self.elem.name(), super::render::axes(&lengths))
    }
}

/// An expression: a form with holes for parts. A hole is `#`, or `$` where a part that is no primary expression needs
/// brackets; `call` as a form is a call of the first part with the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    /// None for what is no value: names of parts, tuples.
    pub ty: Option<Type>,
    pub form: String,
    pub parts: Vec<Expr>,
}

/// The form of a value with a little of another one, which so gets into a result.
pub const WIRED: &str = "$ + 0.01 * $";

/// The form of a call.
pub const CALL: &str = "call";

impl Expr {
    /// A value.
    pub fn new(ty: &Type, form: impl Into<String>, parts: Vec<Expr>) -> Expr {
        Expr { ty: Some(ty.clone()), form: form.into(), parts }
    }

    /// A name, a literal, or any other text that stands for a value.
    pub fn leaf(ty: &Type, text: impl Into<String>) -> Expr {
        Expr::new(ty, text, Vec::new())
    }

    /// A text that is no value of its own.
    pub fn word(text: impl Into<String>) -> Expr {
        Expr { ty: None, form: text.into(), parts: Vec::new() }
    }

    /// Several values at once.
    pub fn tuple(form: impl Into<String>, parts: Vec<Expr>) -> Expr {
        Expr { ty: None, form: form.into(), parts }
    }
}

impl Expr {
    /// The same, but for sure no bare list: what a static index leaves out of one would be something that nothing
    /// reads.
    pub fn solid(self) -> Expr {
        if self.form.starts_with('[') { self.worked() } else { self }
    }

    /// As [`Expr::solid`], and no bare weight: under another name that nothing reads it would be a weight that nothing
    /// reads.
    pub fn read(self) -> Expr {
        let bare = self.parts.is_empty() && self.form.starts_with(['w', 'z']);
        if bare { self.worked() } else { self.solid() }
    }

    fn worked(self) -> Expr {
        let Some(ty) = self.ty.clone() else { return self };
        let form = match ty.elem {
            Elem::F32 => "$ * 0.9",
            Elem::Bool => "(not $)",
            _ => "$ + 1",
        };
        Expr::new(&ty, form, vec![self])
    }

    /// One float that depends on all of a value: how what nothing read gets into a result.
    pub fn as_scalar(self) -> Expr {
        let Some(ty) = self.ty.clone() else { return self };
        let float = match ty.elem {
            Elem::F32 => self,
            Elem::U64 | Elem::U32 | Elem::I32 => Expr::new(&ty.with(Elem::F32), "f32($ % 9)", vec![self]),
            Elem::Bool | Elem::I8 | Elem::U8 => Expr::new(&ty.with(Elem::F32), "f32(#)", vec![self]),
        };
        let form = match ty.shape.len() {
            0 => return float,
            1 => "sum(#)".to_owned(),
            _ if ty.fixed().is_some() => "sum(flatten(#))".to_owned(),
            rank => format!("{}#{}", "sum(".repeat(rank), ")".repeat(rank)),
        };
        Expr::new(&Type::scalar(Elem::F32), form, vec![float])
    }
}

/// A statement of a block or entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Stmt {
    /// Makes or rebinds names.
    Assign {
        names: Vec<(String, Type)>,
        value: Expr,
    },
    If {
        arms: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    Repeat {
        variable: String,
        first: usize,
        count: Expr,
        most: usize,
        body: Vec<Stmt>,
    },
    For {
        variable: String,
        rounds: usize,
        body: Vec<Stmt>,
    },
    Exit(Expr),
    Probe(String, Expr),
    Output(String, Expr),
    Return(Vec<Expr>),
}

/// A weight, state or part.
#[derive(Clone, Debug, PartialEq)]
pub enum Decl {
    Weight { name: String, encoding: String, shape: Vec<usize> },
    State { names: Vec<String>, ty: String, initial: Option<String> },
    Part { name: String, count: Option<usize>, of: String },
}

/// A block.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    pub name: String,
    /// Static parameters as written, or nothing.
    pub statics: String,
    pub params: Vec<(String, Type)>,
    pub results: Vec<Type>,
    pub decls: Vec<Decl>,
    pub body: Vec<Stmt>,
}

/// An entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// From the name to the start elements.
    pub header: String,
    pub body: Vec<Stmt>,
}

/// A whole model with its config.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Keys of the config with their types and values.
    pub keys: Vec<(String, String, String)>,
    /// Names of model level, mostly encodings.
    pub names: Vec<(String, String)>,
    /// Inputs of model level.
    pub inputs: Vec<(String, String)>,
    /// Functions of the host with their types.
    pub hosts: Vec<(String, String)>,
    pub decls: Vec<Decl>,
    pub blocks: Vec<Block>,
    pub entries: Vec<Entry>,
}

/// The bodies inside a statement.
pub fn bodies_mut(stmt: &mut Stmt) -> Vec<&mut Vec<Stmt>> {
    match stmt {
        Stmt::If { arms, otherwise } => arms.iter_mut().map(|(_, body)| body).chain([otherwise]).collect(),
        Stmt::Repeat { body, .. } | Stmt::For { body, .. } => vec![body],
        _ => Vec::new(),
    }
}

/// The expressions of a statement itself.
pub fn own_expressions_mut(stmt: &mut Stmt) -> Vec<&mut Expr> {
    match stmt {
        Stmt::Assign { value, .. } => vec![value],
        Stmt::If { arms, .. } => arms.iter_mut().map(|(condition, _)| condition).collect(),
        Stmt::Repeat { count, .. } => vec![count],
        Stmt::For { .. } => Vec::new(),
        Stmt::Exit(value) | Stmt::Probe(_, value) | Stmt::Output(_, value) => vec![value],
        Stmt::Return(values) => values.iter_mut().collect(),
    }
}

impl Program {
    /// The bodies of blocks and entries, those of nested statements not included.
    pub fn top_bodies_mut(&mut self) -> Vec<&mut Vec<Stmt>> {
        let blocks = self.blocks.iter_mut().map(|b| &mut b.body);
        blocks.chain(self.entries.iter_mut().map(|e| &mut e.body)).collect()
    }

    /// Visits every body, inner ones after the one around them.
    pub fn each_body(&mut self, visit: &mut impl FnMut(&mut Vec<Stmt>)) {
        fn walk(body: &mut Vec<Stmt>, visit: &mut impl FnMut(&mut Vec<Stmt>)) {
            visit(body);
            body.iter_mut().flat_map(bodies_mut).for_each(|inner| walk(inner, visit));
        }
        self.top_bodies_mut().into_iter().for_each(|body| walk(body, visit));
    }

    /// Visits every expression, parts after the expression around them.
    pub fn each_expression(&mut self, visit: &mut impl FnMut(&mut Expr)) {
        fn walk(expr: &mut Expr, visit: &mut impl FnMut(&mut Expr)) {
            visit(expr);
            expr.parts.iter_mut().for_each(|part| walk(part, visit));
        }
        self.each_body(&mut |body| {
            body.iter_mut().flat_map(own_expressions_mut).for_each(|expr| walk(expr, visit));
        });
    }
}
