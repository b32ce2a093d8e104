//! Removes what nothing mentions, since a name that nothing reads is an error: assignments, weights, states, parts,
//! blocks and their parameters, names and inputs of model level, keys of the config.

use std::collections::HashSet;

use super::render::expression;
use super::tree::{CALL, Decl, Expr, Program, Stmt, WIRED, bodies_mut, own_expressions_mut};

/// Removes everything unused, and what is unused then.
pub fn prune(program: &mut Program) {
    loop {
        let before = program.clone();
        once(program);
        if *program == before {
            return;
        }
    }
}

/// The words of a text that begin with a letter.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    let apart = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(apart).filter(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// All words that stand in expressions and declarations.
fn mentioned(program: &Program) -> HashSet<String> {
    let mut found = HashSet::new();
    let mut add = |text: &str| found.extend(words(text).map(str::to_owned));
    let mut copy = program.clone();
    copy.each_body(&mut |body| {
        for stmt in body.iter_mut() {
            own_expressions_mut(stmt).into_iter().for_each(|expr| add(&expression(expr)));
        }
    });
    let decls = program.decls.iter().chain(program.blocks.iter().flat_map(|b| &b.decls));
    for decl in decls {
        match decl {
            Decl::Weight { encoding, .. } => add(encoding),
            Decl::State { ty, initial, .. } => {
                add(ty);
                initial.iter().for_each(|text| add(text));
            }
            Decl::Part { of, .. } => add(of),
        }
    }
    program.names.iter().for_each(|(_, value)| add(value));
    found
}

/// Several expressions for as many names.
const LIST: &str = "#, #";

fn retain<T>(from: &mut Vec<T>, kept: &[bool]) {
    let mut kept = kept.iter();
    from.retain(|_| *kept.next().unwrap_or(&true));
}

fn once(program: &mut Program) {
    let found = mentioned(program);
    let read = |name: &String| found.contains(name);
    program.each_body(&mut |body| {
        body.retain_mut(|stmt| match stmt {
            Stmt::Assign { names, value } if value.form == LIST => {
                let kept: Vec<bool> = names.iter().map(|(name, _)| read(name)).collect();
                retain(names, &kept);
                retain(&mut value.parts, &kept);
                value.form = vec!["#"; names.len()].join(", ");
                !names.is_empty()
            }
            Stmt::Assign { names, .. } => names.iter().any(|(name, _)| read(name)),
            Stmt::If { .. } | Stmt::Repeat { .. } | Stmt::For { .. } => bodies_mut(stmt).iter().any(|b| !b.is_empty()),
            _ => true,
        });
    });
    let keep = |decl: &mut Decl| match decl {
        Decl::Weight { name, .. } | Decl::Part { name, .. } => read(name),
        Decl::State { names, .. } => {
            names.retain(&read);
            !names.is_empty()
        }
    };
    program.decls.retain_mut(keep);
    program.blocks.iter_mut().for_each(|b| b.decls.retain_mut(keep));
    program.names.retain(|(name, _)| read(name));
    program.inputs.retain(|(name, _)| read(name));
    program.hosts.retain(|(name, _)| read(name));
    program.keys.retain(|(name, _, _)| read(name));
    program.blocks.retain(|b| read(&b.name));
    unread_parameters(program, &found);
}

/// Takes parameters that nothing reads from their blocks and from all calls.
fn unread_parameters(program: &mut Program, found: &HashSet<String>) {
    for index in 0..program.blocks.len() {
        let block = &program.blocks[index];
        let Some(at) = block.params.iter().position(|(name, _)| !found.contains(name)) else { continue };
        if at == 0 {
            // The first parameter stays, and is read: a mapped call has its axes from it.
            let (name, ty) = block.params[at].clone();
            if let Some(Stmt::Return(values)) = program.blocks[index].body.last_mut()
                && let Some(value) = values.first_mut()
                && let Some(result) = value.ty.clone()
            {
                let read = Expr::leaf(&ty, name).as_scalar();
                *value = Expr::new(&result, WIRED, vec![value.clone(), read]);
            }
            continue;
        }
        let instances = instances(program, &block.name.clone());
        program.blocks[index].params.remove(at);
        program.each_expression(&mut |expr| {
            let callee = expr.parts.first().and_then(|c| words(&c.form).next().map(str::to_owned));
            if expr.form == CALL && callee.is_some_and(|name| instances.contains(&name)) && expr.parts.len() > at + 1 {
                expr.parts.remove(at + 1);
            }
        });
    }
}

/// Names under which a block is called.
fn instances(program: &Program, block: &str) -> HashSet<String> {
    let mut names = HashSet::from([block.to_owned()]);
    for decl in program.decls.iter().chain(program.blocks.iter().flat_map(|b| &b.decls)) {
        if let Decl::Part { name, of, .. } = decl
            && words(of).next() == Some(block)
        {
            names.insert(name.clone());
        }
    }
    names
}
