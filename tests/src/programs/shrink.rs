//! Cuts a program down while it still fails in the same way. Candidates need not be valid: what is refused or fails
//! otherwise is no smaller version of the same fault.

use super::prune::prune;
use super::tree::{CALL, Decl, Elem, Expr, Program, Stmt, Type, WIRED, bodies_mut};

/// The smallest program found for which `fails` holds, after at most so many questions.
pub fn shrink(program: &Program, questions: usize, mut fails: impl FnMut(&Program) -> bool) -> Program {
    let mut search = Search { best: program.clone(), left: questions, fails: &mut fails };
    search.drop_wiring();
    loop {
        let before = search.best.clone();
        search.remove_statements();
        search.flatten_control();
        search.lift_parts();
        search.replace_by_weights();
        search.fewer_parts();
        search.simpler_forms();
        if search.best == before || search.left == 0 {
            return search.best;
        }
    }
}

struct Search<'f> {
    best: Program,
    left: usize,
    fails: &'f mut dyn FnMut(&Program) -> bool,
}

impl Search<'_> {
    /// Takes a candidate if it is another one and still fails.
    fn offer(&mut self, mut candidate: Program) -> bool {
        repair(&mut candidate);
        prune(&mut candidate);
        if self.left == 0 || candidate == self.best {
            return false;
        }
        self.left -= 1;
        if (self.fails)(&candidate) {
            self.best = candidate;
            return true;
        }
        false
    }

    /// All that is only added to results so that something reads it, at once.
    fn drop_wiring(&mut self) {
        let mut candidate = self.best.clone();
        candidate.each_expression(&mut |expr| unwire(expr, |_| true));
        self.offer(candidate);
    }

    /// Bodies of the best program, in the order of visits.
    fn bodies(&self) -> Vec<usize> {
        let mut lengths = Vec::new();
        self.best.clone().each_body(&mut |body| lengths.push(body.len()));
        lengths
    }

    /// Runs of statements, long ones first.
    fn remove_statements(&mut self) {
        for size in [16, 8, 4, 2, 1] {
            let mut body = 0;
            while body < self.bodies().len() {
                let mut at = 0;
                while at < self.bodies().get(body).copied().unwrap_or(0) {
                    let mut candidate = self.best.clone();
                    let mut number = 0;
                    candidate.each_body(&mut |stmts| {
                        if number == body {
                            let end = (at + size).min(stmts.len());
                            let kept: Vec<Stmt> =
                                stmts.drain(at..end).filter(|s| matches!(s, Stmt::Return(_))).collect();
                            let rest = stmts.split_off(at);
                            stmts.extend(kept);
                            stmts.extend(rest);
                        }
                        number += 1;
                    });
                    if !self.offer(candidate) {
                        at += size;
                    }
                    if self.left == 0 {
                        return;
                    }
                }
                body += 1;
            }
        }
    }

    /// What stands inside a choice or loop, in its place.
    fn flatten_control(&mut self) {
        let mut body = 0;
        while body < self.bodies().len() {
            let mut at = 0;
            while at < self.bodies().get(body).copied().unwrap_or(0) {
                let mut side = 0;
                loop {
                    let mut candidate = self.best.clone();
                    let (mut number, mut found) = (0, false);
                    candidate.each_body(&mut |stmts| {
                        if number == body
                            && let Some(stmt) = stmts.get_mut(at)
                            && let Some(inner) = bodies_mut(stmt).into_iter().nth(side)
                        {
                            found = true;
                            let mut inner = std::mem::take(inner);
                            inner.retain(|stmt| !matches!(stmt, Stmt::Exit(_)));
                            stmts.splice(at..=at, inner);
                        }
                        number += 1;
                    });
                    if !found || self.left == 0 || self.offer(candidate) {
                        break;
                    }
                    side += 1;
                }
                at += 1;
            }
            body += 1;
        }
    }

    /// Changes the expressions one by one; `change` gives what may stand instead.
    fn each_expression(&mut self, change: impl Fn(&Expr) -> Vec<Expr>) {
        let mut at = 0;
        loop {
            let mut target = None;
            let mut number = 0;
            self.best.clone().each_expression(&mut |expr| {
                if number == at {
                    target = Some(expr.clone());
                }
                number += 1;
            });
            let Some(target) = target else { return };
            let mut taken = false;
            for other in change(&target) {
                let mut candidate = self.best.clone();
                let mut number = 0;
                candidate.each_expression(&mut |expr| {
                    if number == at {
                        *expr = other.clone();
                    }
                    number += 1;
                });
                if self.offer(candidate) {
                    taken = true;
                    break;
                }
                if self.left == 0 {
                    return;
                }
            }
            if !taken {
                at += 1;
            }
        }
    }

    /// A part of the same type instead of the whole.
    fn lift_parts(&mut self) {
        fn same(expr: &Expr, ty: &Type, found: &mut Vec<Expr>) {
            for part in &expr.parts {
                if part.ty.as_ref() == Some(ty) {
                    found.push(part.clone());
                } else {
                    same(part, ty, found);
                }
            }
        }
        self.each_expression(|expr| {
            let mut found = Vec::new();
            if let Some(ty) = &expr.ty {
                same(expr, ty, &mut found);
            }
            found
        });
    }

    /// A weight instead of what computes, marked by a form that [`repair`] makes a declaration of.
    fn replace_by_weights(&mut self) {
        self.each_expression(|expr| match &expr.ty {
            Some(ty) if !expr.parts.is_empty() => stand_in(ty).into_iter().collect(),
            _ => Vec::new(),
        });
    }

    /// Fewer layers, experts and rounds.
    fn fewer_parts(&mut self) {
        let mut candidate = self.best.clone();
        let single = |decl: &mut Decl| {
            if let Decl::Part { count: Some(n), name, .. } = decl
                && name == "layers"
            {
                *n = 1;
            }
        };
        candidate.decls.iter_mut().for_each(single);
        candidate.each_body(&mut |body| {
            for stmt in body.iter_mut() {
                if let Stmt::For { rounds, .. } = stmt {
                    *rounds = 1;
                }
            }
        });
        self.offer(candidate);
    }

    /// Sums without what was added to read everything, plain encodings.
    fn simpler_forms(&mut self) {
        let weights = self.best.decls.len() + self.best.blocks.iter().map(|b| b.decls.len()).sum::<usize>();
        for at in 0..weights {
            let mut candidate = self.best.clone();
            let decls = candidate.decls.iter_mut().chain(candidate.blocks.iter_mut().flat_map(|b| &mut b.decls));
            let Some(Decl::Weight { encoding, .. }) = decls.into_iter().nth(at) else { continue };
            if encoding == "f32" {
                continue;
            }
            *encoding = "f32".into();
            self.offer(candidate);
        }
    }
}

/// Takes away what [`super::statements`] adds to a result, where `drops` holds for it.
fn unwire(expr: &mut Expr, drops: impl Fn(&Expr) -> bool) {
    while expr.form == WIRED && expr.parts.len() == 2 && drops(&expr.parts[1]) {
        *expr = expr.parts.swap_remove(0);
    }
}

/// The prefix of names that stand for weights still to be declared.
const NEW: &str = "zw";

/// A value of the type from a weight that nothing declares yet.
fn stand_in(ty: &Type) -> Option<Expr> {
    let shape = ty.fixed()?;
    let axes = if shape.is_empty() { vec![1] } else { shape.clone() };
    let name = format!("{NEW}_{}", axes.iter().map(usize::to_string).collect::<Vec<_>>().join("_"));
    let one = if shape.is_empty() { format!("{name}[0]") } else { name };
    let text = match ty.elem {
        Elem::F32 => one,
        Elem::Bool => format!("({one} >= 1.0)"),
        other => format!("{}({one} * 3)", other.name()),
    };
    Some(Expr::leaf(ty, text))
}

/// Declares the weights that stand in for values, and gives names that are no longer made such a value.
fn repair(program: &mut Program) {
    let mut made: Vec<String> = Vec::new();
    program.each_body(&mut |body| {
        for stmt in body.iter() {
            match stmt {
                Stmt::Assign { names, .. } => made.extend(names.iter().map(|(name, _)| name.clone())),
                Stmt::Repeat { variable, .. } | Stmt::For { variable, .. } => made.push(variable.clone()),
                _ => {}
            }
        }
    });
    program.each_expression(&mut |expr| unwire(expr, |added| stand_ins(&added.form).len() == 1));
    let decls = program.decls.iter().chain(program.blocks.iter().flat_map(|b| &b.decls));
    for decl in decls {
        match decl {
            Decl::Weight { name, .. } | Decl::Part { name, .. } => made.push(name.clone()),
            Decl::State { names, .. } => made.extend(names.iter().cloned()),
        }
    }
    made.extend(program.blocks.iter().flat_map(|b| b.params.iter().map(|(name, _)| name.clone())));
    let known: std::collections::HashSet<String> = made.into_iter().collect();
    program.each_expression(&mut |expr| {
        let lost = expr.parts.is_empty()
            && expr.form.starts_with(['v', 'i'])
            && expr.form[1..].chars().all(|c| c.is_ascii_digit())
            && expr.form.len() > 1
            && !known.contains(&expr.form);
        if lost && let Some(other) = expr.ty.as_ref().and_then(stand_in) {
            *expr = other;
        }
    });
    for at in 0..program.blocks.len() {
        let mut wanted = Vec::new();
        let mut only = Program { blocks: vec![program.blocks[at].clone()], ..program.clone() };
        only.entries.clear();
        only.each_expression(&mut |expr| wanted.extend(stand_ins(&expr.form)));
        declare(&mut program.blocks[at].decls, wanted);
    }
    let mut wanted = Vec::new();
    let mut only = Program { blocks: Vec::new(), ..program.clone() };
    only.each_expression(&mut |expr| wanted.extend(stand_ins(&expr.form)));
    declare(&mut program.decls, wanted);
}

fn stand_ins(form: &str) -> Vec<String> {
    if form == CALL {
        return Vec::new();
    }
    super::prune::words(form).filter(|word| word.starts_with("zw_")).map(str::to_owned).collect()
}

fn declare(decls: &mut Vec<Decl>, wanted: Vec<String>) {
    for name in wanted {
        if decls.iter().any(|d| matches!(d, Decl::Weight { name: known, .. } if *known == name)) {
            continue;
        }
        let shape = name.split('_').skip(1).filter_map(|n| n.parse().ok()).collect();
        decls.push(Decl::Weight { name, encoding: "f32".into(), shape });
    }
}
