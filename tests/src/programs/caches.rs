//! States that grow, and what reads them: scores, masks by position, the best entries, sums over entries.

use super::scope::{Generator, Group, Scope};
use super::tree::{Decl, Dim, Elem, Expr, Stmt, Type};

impl Generator {
    /// Declares one to three states that grow together; their entries may differ.
    pub fn cache(&mut self, scope: &mut Scope) {
        let axis = self.axes;
        self.axes += 1;
        let kind = match self.dice.below(8) {
            0 => "cache".to_owned(),
            1 | 2 => format!("cache({})", 64 + self.dice.below(3) * 17),
            _ => format!("ring({})", self.dice.pick(&[1, 2, 3, 4, 5, 7, 8, 16])),
        };
        let count = 1 + self.dice.below(3);
        let width = self.width();
        let mixed = self.features.mixed_caches && self.dice.chance(60);
        let mut states = Vec::new();
        for _ in 0..count {
            let entry = match if count == 1 || mixed { self.dice.below(12) } else { 12 } {
                0 => Type::scalar(Elem::F32),
                1 => Type::of(self.dice.pick(&[Elem::I32, Elem::Bool, Elem::U8]), &[width]),
                2 => Type::f32(&[1 + self.dice.below(3), width.min(17)]),
                3..=5 => Type::f32(&[self.width()]),
                _ => Type::f32(&[width]),
            };
            let place = if count == 1 && self.dice.chance(20) { entry.shape.len() } else { 0 };
            let name = self.name("k");
            let mut axes: Vec<String> = entry.fixed().unwrap_or_default().iter().map(usize::to_string).collect();
            axes.insert(place, kind.clone());
            let text = format!("{}[{}]", entry.elem.name(), axes.join(", "));
            // States of one type are declared in one statement, so that they share an axis.
            match scope.decls.iter_mut().last() {
                Some(Decl::State { names, ty, .. }) if *ty == text && !states.is_empty() => names.push(name.clone()),
                _ => scope.decls.push(Decl::State { names: vec![name.clone()], ty: text, initial: None }),
            }
            states.push((name, entry, place));
        }
        scope.groups.push(Group { axis, states, pushed: false });
    }

    /// What a state of a group is.
    fn state_type(group: &Group, at: usize) -> Type {
        let (_, entry, place) = &group.states[at];
        let mut ty = entry.clone();
        ty.shape.insert(*place, Dim::Grows(group.axis));
        ty
    }

    /// Pushes one entry to each state of a group that has none of this step yet, and makes the states visible.
    pub fn push(&mut self, scope: &mut Scope) -> Vec<Stmt> {
        let Some(at) = scope.groups.iter().position(|g| !g.pushed) else { return Vec::new() };
        let mut made = Vec::new();
        for state in 0..scope.groups[at].states.len() {
            let (name, entry, _) = scope.groups[at].states[state].clone();
            let ty = Self::state_type(&scope.groups[at], state);
            let value = self.expr(scope, &entry, 2);
            let form = if entry.elem == Elem::F32 && self.dice.chance(30) { "push(#, tanh(#))" } else { "push(#, #)" };
            let pushed = Expr::new(&ty, form, vec![Expr::word(name.clone()), value]);
            made.push(Stmt::Assign { names: vec![(name, ty)], value: pushed });
        }
        scope.groups[at].pushed = true;
        self.show(scope, at);
        made
    }

    /// Makes the states of a group visible.
    pub fn show(&mut self, scope: &mut Scope, at: usize) {
        let group = scope.groups[at].clone();
        for state in 0..group.states.len() {
            let name = &group.states[state].0;
            if !scope.vars.iter().any(|v| v.name == *name) {
                scope.declare(name, &Self::state_type(&group, state), false, false);
            }
        }
    }

    /// Something with a growing axis.
    pub fn growing_expr(&mut self, scope: &mut Scope, ty: &Type, place: usize, axis: usize, depth: usize) -> Expr {
        let vector = ty.shape.len() == 1;
        match (ty.elem, self.dice.below(10)) {
            (Elem::F32, 0..=3) => {
                let x = self.expr(scope, ty, depth);
                let form = self.dice.pick(&["tanh(#)", "$ * 0.5", "exp(-abs(#))", "max(#, -1)", "$ + 0.1", "abs(#)"]);
                Expr::new(ty, form, vec![x])
            }
            (Elem::F32, 4) => {
                let (x, y) = (self.expr(scope, ty, depth), self.expr(scope, ty, depth));
                Expr::new(ty, self.dice.pick(&["$ + $", "$ * $", "max(#, #)"]), vec![x, y])
            }
            (Elem::F32, 5 | 6) if vector => {
                let x = self.expr(scope, ty, depth);
                let n = 1 + self.dice.below(6);
                let name = self.state_of(scope, axis);
                let form = match self.dice.below(4) {
                    0 => "softmax(#)".to_owned(),
                    1 => format!("select(position - positions({name}) < {n}, #, -inf)"),
                    2 => format!("$ - 0.1 * f32(position - positions({name}))"),
                    _ => "softmax(#)".to_owned(),
                };
                Expr::new(ty, form, vec![x])
            }
            (Elem::F32, 7) if vector => {
                let ints = self.expr(scope, &ty.with(Elem::I32), depth);
                Expr::new(ty, "f32(#)", vec![ints])
            }
            (Elem::F32, 8) if ty.shape.len() == 2 && place == 0 => {
                // Every entry through a matrix.
                let Dim::Fixed(m) = ty.shape[1] else { return self.growing_leaf(scope, ty, place, axis) };
                match self.entry_state(scope, axis) {
                    Some((name, n)) => {
                        let w = self.weight(scope, "f32", &[n, m]);
                        Expr::leaf(ty, format!("({name} @ {w})"))
                    }
                    None => self.growing_leaf(scope, ty, place, axis),
                }
            }
            _ => self.growing_leaf(scope, ty, place, axis),
        }
    }

    /// A state of the axis, by name.
    fn state_of(&mut self, scope: &Scope, axis: usize) -> String {
        scope.group(axis).map_or_else(String::new, |g| g.states[self.dice.below(g.states.len())].0.clone())
    }

    /// A state of the axis whose entries are vectors of floats, with their length.
    fn entry_state(&mut self, scope: &mut Scope, axis: usize) -> Option<(String, usize)> {
        let group = scope.group(axis)?;
        let found: Vec<(String, usize)> = group
            .states
            .iter()
            .filter(|(_, entry, place)| entry.elem == Elem::F32 && entry.shape.len() == 1 && *place == 0)
            .filter_map(|(name, entry, _)| Some((name.clone(), entry.fixed()?[0])))
            .collect();
        if found.is_empty() { None } else { Some(found[self.dice.below(found.len())].clone()) }
    }

    /// The simplest thing of the type.
    pub fn growing_leaf(&mut self, scope: &mut Scope, ty: &Type, place: usize, axis: usize) -> Expr {
        let name = self.state_of(scope, axis);
        if ty.shape.len() == 1 {
            return match ty.elem {
                Elem::F32 => match self.entry_state(scope, axis) {
                    Some((keys, n)) => {
                        let query = self.expr(scope, &Type::f32(&[n]), 1);
                        Expr::new(ty, format!("{keys} @ $ * 0.3"), vec![query])
                    }
                    None => Expr::leaf(ty, format!("(f32(position - positions({name})) * 0.2)")),
                },
                Elem::Bool => Expr::leaf(ty, format!("(positions({name}) % 2 == 0)")),
                Elem::I32 => Expr::leaf(ty, format!("positions({name})")),
                other => Expr::leaf(ty, format!("{}(positions({name}))", other.name())),
            };
        }
        let group = scope.group(axis).cloned();
        let states = group.iter().flat_map(|g| (0..g.states.len()).map(move |i| (g, i)));
        let same = states.into_iter().find(|(g, i)| {
            let found = Self::state_type(g, *i);
            found.shape == ty.shape
        });
        match same {
            Some((g, i)) => {
                let (name, entry, _) = &g.states[i];
                if entry.elem == ty.elem {
                    Expr::leaf(ty, name.clone())
                } else if ty.elem == Elem::Bool {
                    Expr::leaf(ty, format!("({}({name}) > 0)", Elem::I32.name()))
                } else {
                    Expr::leaf(ty, format!("{}({name})", ty.elem.name()))
                }
            }
            None => {
                // Another shape than any state has: every entry through a matrix.
                let m = match ty.shape.get(1 - place.min(1)) {
                    Some(Dim::Fixed(m)) => *m,
                    _ => 1,
                };
                match self.entry_state(scope, axis) {
                    Some((keys, n)) => {
                        let w = self.weight(scope, "f32", &[n, m]);
                        Expr::leaf(ty, format!("({keys} @ {w})"))
                    }
                    None => Expr::leaf(ty, name),
                }
            }
        }
    }

    /// A value of constant shape from a group: attention, the best entries, or a statistic.
    pub fn read_group(&mut self, scope: &mut Scope, at: usize) -> Vec<Stmt> {
        let group = scope.groups[at].clone();
        let scores = Type { elem: Elem::F32, shape: vec![Dim::Grows(group.axis)] };
        let score = self.expr(scope, &scores, 3);
        let float = Type::scalar(Elem::F32);
        let made = self.name("v");
        let vectors: Vec<usize> = (0..group.states.len())
            .filter(|&i| group.states[i].2 == 0 && group.states[i].1.elem == Elem::F32)
            .filter(|&i| group.states[i].1.shape.len() == 1)
            .collect();
        if vectors.is_empty() || self.dice.chance(25) {
            let int = Type::scalar(Elem::I32);
            let (ty, form) = match self.dice.below(6) {
                0 => (float, "sum(#)"),
                1 => (float, "max(#, axis: 0)"),
                2 => (float, "min(#)"),
                3 => (int.clone(), "argmax(#)"),
                4 => (int, "count($ > 0)"),
                _ => (float, "sum(select($ > 0.1, #, 0.0))"),
            };
            let mut parts = vec![score];
            if form.contains('$') && form.contains('#') {
                parts.insert(0, self.growing_leaf(scope, &scores, 0, group.axis));
            }
            let value = Expr::new(&ty, form, parts);
            scope.declare(&made, &ty, true, false);
            return vec![Stmt::Assign { names: vec![(made, ty)], value }];
        }
        let (values, entry, _) = group.states[vectors[self.dice.below(vectors.len())]].clone();
        match self.dice.below(8) {
            0..=3 => {
                let value = Expr::new(&entry, format!("softmax(#) @ {values}"), vec![score]);
                self.made(scope, made, entry, value)
            }
            4 => {
                let value = Expr::new(&entry, format!("$ @ {values}"), vec![score]);
                self.made(scope, made, entry, value)
            }
            5 => {
                let form = self.dice.pick(&["sum", "max", "min"]);
                let value = Expr::leaf(&entry, format!("{form}({values}, axis: 0)"));
                self.made(scope, made, entry, value)
            }
            6 => {
                let value = Expr::new(&entry, format!("{values}[argmax(#)]"), vec![score]);
                self.made(scope, made, entry, value)
            }
            _ => {
                let k = 1 + self.dice.below(4);
                let (found, chosen) = (self.name("v"), self.name("i"));
                let (best, places) = (Type::f32(&[k]), Type::of(Elem::I32, &[k]));
                let mut stmts = vec![Stmt::Assign {
                    names: vec![(found.clone(), best.clone()), (chosen.clone(), places.clone())],
                    value: Expr::tuple(format!("top_k(#, {k})"), vec![score]),
                }];
                scope.declare(&found, &best, true, false);
                scope.declare(&chosen, &places, true, false);
                let weights = if self.dice.chance(50) {
                    Expr::leaf(&best, format!("max({found}, -1)"))
                } else {
                    Expr::leaf(&best, format!("exp({found})"))
                };
                let at = Expr::leaf(&places, chosen);
                let value = Expr::new(&entry, format!("$ @ {values}[#]"), vec![weights, at]);
                stmts.extend(self.made(scope, made, entry, value));
                stmts
            }
        }
    }

    fn made(&mut self, scope: &mut Scope, name: String, ty: Type, value: Expr) -> Vec<Stmt> {
        scope.declare(&name, &ty, true, false);
        vec![Stmt::Assign { names: vec![(name, ty)], value }]
    }
}
