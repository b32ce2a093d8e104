//! Items and statements: headers, imports, blocks, entries, parts, weights, states and control.

use super::tree::{Builder, Children, Rule};
use crate::lang::ast::*;
use pest::iterators::Pair;

impl Builder<'_> {
    /// An `item` pair.
    pub fn item(&mut self, pair: Pair<'_, Rule>) -> Item {
        let inner = Children::of(pair).next();
        match inner.as_rule() {
            Rule::import => {
                let span = self.span(&inner);
                Item::Import(Import { library: self.name(&Children::of(inner).next()), span })
            }
            Rule::config => Item::Config(self.config(inner)),
            Rule::preset => Item::Preset(self.preset(inner)),
            Rule::checkpoint => Item::Checkpoint(self.checkpoint(inner)),
            Rule::block => Item::Block(self.block(inner)),
            _ => Item::Stmt(self.stmt(inner)),
        }
    }

    fn block(&mut self, pair: Pair<'_, Rule>) -> Block {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let name = self.name(&children.next());
        let statics = children.take(Rule::statics).into_iter();
        let statics = statics.flat_map(|all| Children::of(all).rest());
        let statics = statics.map(|pair| self.static_param(pair)).collect();
        let params = self.params(&mut children);
        let mut results = Vec::new();
        while let Some(result) = children.take(Rule::value_type) {
            results.push(self.value_type(result));
        }
        let last = results.last().map_or(name.span, |result: &ValueType| result.span);
        let header = crate::diagnostics::Span { end: last.end, ..span };
        let body = self.body(children.next());
        Block { name, statics, params, results, body, header, span }
    }

    fn static_param(&mut self, pair: Pair<'_, Rule>) -> StaticParam {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let name = self.name(&children.next());
        let kind = children.take(Rule::kind).map_or(StaticKind::Int, |kind| match kind.as_str() {
            "float" => StaticKind::Float,
            "bool" => StaticKind::Bool,
            "string" => StaticKind::String,
            "list" => StaticKind::List,
            "encoding" => StaticKind::Encoding,
            "axis" => StaticKind::Axis,
            "part" => StaticKind::Part,
            _ => StaticKind::Int,
        });
        let default = children.take(Rule::default).map(|pair| self.default(pair));
        StaticParam { name, kind, default, span }
    }

    fn params(&mut self, children: &mut Children<'_>) -> Vec<Param> {
        let all = children.take(Rule::params).into_iter();
        all.flat_map(|all| Children::of(all).rest()).map(|pair| self.param(pair)).collect()
    }

    fn param(&mut self, pair: Pair<'_, Rule>) -> Param {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let names = self.names(children.next());
        let ty = self.value_type(children.next());
        let limit = children.take(Rule::limit).map(|pair| self.limit(pair));
        Param { names, ty, limit, span }
    }

    /// A `value_type` or `stored` pair.
    pub(super) fn value_type(&mut self, pair: Pair<'_, Rule>) -> ValueType {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let element = self.name(&children.next());
        let axes = children.take(Rule::shape).map(|shape| self.exprs(Children::of(shape)));
        let optional = children.take(Rule::optional).is_some();
        ValueType { element, axes: axes.unwrap_or_default(), optional, span }
    }

    fn body(&mut self, pair: Pair<'_, Rule>) -> Body {
        let span = self.span(&pair);
        Body { stmts: Children::of(pair).rest().map(|stmt| self.stmt(stmt)).collect(), span }
    }

    fn stmt(&mut self, pair: Pair<'_, Rule>) -> Stmt {
        let span = self.span(&pair);
        let inner = Children::of(pair).next();
        let keyword = inner.clone().into_inner().next().map_or(span, |first| self.span(&first));
        let rule = inner.as_rule();
        let children = Children::of(inner);
        Stmt { kind: self.stmt_kind(rule, children), keyword, span }
    }

    fn stmt_kind(&mut self, rule: Rule, mut children: Children<'_>) -> StmtKind {
        match rule {
            Rule::part => {
                let mut names = Vec::new();
                while let Some(name) = children.take(Rule::part_name) {
                    names.push(self.part_name(name));
                }
                let block = self.expr(children.next());
                StmtKind::Part { names, block, at: self.at(&mut children) }
            }
            Rule::weight => {
                let names = self.names(children.next());
                let ty = self.value_type(children.next());
                StmtKind::Weight { names, ty, at: self.at(&mut children) }
            }
            Rule::state => {
                let held = children.take(Rule::k_held).is_some();
                let names = self.names(children.next());
                let ty = self.value_type(children.next());
                let init = children.take(Rule::default).map(|pair| self.default(pair));
                StmtKind::State { held, names, ty, init }
            }
            Rule::assign => {
                let names = self.names(children.next());
                StmtKind::Assign { names, values: self.exprs(children) }
            }
            Rule::if_stmt => self.if_stmt(children),
            Rule::match_stmt => {
                let subject = self.expr(children.next());
                StmtKind::Match { subject, arms: children.rest().map(|arm| self.arm(arm)).collect() }
            }
            Rule::for_stmt => {
                let variable = self.name(&children.next());
                let domain = self.domain(children.next());
                StmtKind::For { variable, domain, body: self.body(children.next()) }
            }
            Rule::repeat_stmt => {
                let variable = self.name(&children.next());
                let domain = self.domain(children.next());
                let most = children.take(Rule::expr).map(|pair| self.expr(pair));
                StmtKind::Repeat { variable, domain, most, body: self.body(children.next()) }
            }
            Rule::exit_stmt => StmtKind::Exit { condition: self.expr(children.next()) },
            Rule::return_stmt => StmtKind::Return { values: self.exprs(children) },
            Rule::output => {
                let name = self.name(&children.next());
                StmtKind::Output { name, value: children.any().map(|pair| self.expr(pair)) }
            }
            Rule::probe => {
                let name = self.name(&children.next());
                StmtKind::Probe { name, value: children.any().map(|pair| self.expr(pair)) }
            }
            Rule::check => {
                let warn = children.next().as_rule() == Rule::k_warn;
                let condition = self.expr(children.next());
                StmtKind::Check { warn, condition, message: self.template(&children.next()) }
            }
            Rule::input => {
                let param = self.param(children.next());
                let neutral = children.take(Rule::default).map(|pair| self.default(pair));
                StmtKind::Input { param, neutral }
            }
            Rule::host => {
                let name = self.name(&children.next());
                let params = self.params(&mut children);
                StmtKind::Host { name, params, result: self.value_type(children.next()) }
            }
            _ => StmtKind::Entry(self.entry(children)),
        }
    }

    fn part_name(&mut self, pair: Pair<'_, Rule>) -> PartName {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let name = self.name(&children.next());
        let index = children.take(Rule::name).map(|index| self.name(&index));
        let array = index.map(|index| (index, self.domain(children.next())));
        PartName { name, array, span }
    }

    fn at(&mut self, children: &mut Children<'_>) -> Option<Template> {
        let at = children.take(Rule::at)?;
        Some(self.template(&Children::of(at).next()))
    }

    fn if_stmt(&mut self, mut children: Children<'_>) -> StmtKind {
        let mut arms = Vec::new();
        let mut otherwise = None;
        while let Some(pair) = children.any() {
            if pair.as_rule() == Rule::body {
                otherwise = Some(self.body(pair));
                break;
            }
            let condition = self.expr(pair);
            arms.push(IfArm { condition, body: self.body(children.next()) });
        }
        StmtKind::If { arms, otherwise }
    }

    fn arm(&mut self, pair: Pair<'_, Rule>) -> MatchArm {
        let span = self.span(&pair);
        let mut children = Children::of(pair);
        let pattern = match children.take(Rule::otherwise) {
            Some(pair) => Pattern::Otherwise(self.span(&pair)),
            None => {
                let mut values = Vec::new();
                while let Some(literal) = children.take(Rule::signed_literal) {
                    values.push(self.literal(literal));
                }
                Pattern::Values(values)
            }
        };
        let what = children.next();
        let body = match what.as_rule() {
            Rule::body => self.body(what),
            _ => {
                let stmt = self.stmt(what);
                Body { span: stmt.span, stmts: vec![stmt] }
            }
        };
        MatchArm { pattern, body, span }
    }

    fn entry(&mut self, mut children: Children<'_>) -> Entry {
        let name = self.name(&children.next());
        let params = self.params(&mut children);
        let mut header = params.last().map_or(name.span, |param| name.span.to(param.span));
        let within = children.take(Rule::within).map(|pair| {
            header = header.to(self.span(&pair));
            self.name(&Children::of(pair).next())
        });
        let start = children.take(Rule::start).map(|pair| {
            let span = self.span(&pair);
            header = header.to(span);
            let mut inner = Children::of(pair);
            let value = self.expr(inner.next());
            Start { value, if_empty: inner.take(Rule::k_empty).is_some(), span }
        });
        Entry { name, params, within, start, body: self.body(children.next()), header }
    }
}
