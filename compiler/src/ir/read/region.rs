//! Regions and their nodes.

use std::collections::HashMap;

use indexmap::IndexSet;

use super::lexer::Token;
use super::{DEEPEST, Reader, Result};
use crate::ir::graph::{Region, Value};
use crate::ir::module::OriginId;
use crate::limits::Limits;

/// The values of a region by their printed numbers.
type Numbers = HashMap<u32, Value>;

impl Reader<'_> {
    /// A region after its label.
    pub(super) fn region(&mut self) -> Result<Region> {
        if self.depth >= DEEPEST {
            return self.fail("regions nest too deep");
        }
        self.depth += 1;
        let mut region = Region::new();
        let mut numbers = Numbers::new();
        self.expect('(')?;
        while let Token::Value(n) = self.next {
            self.fresh(n, &numbers)?;
            self.expect(':')?;
            let ty = self.ty()?;
            numbers.insert(n, region.add_param(ty));
            if !self.accept(',')? {
                break;
            }
        }
        self.expect(')')?;
        self.expect('{')?;
        while !self.is_word("yield") {
            self.nodes += 1;
            if self.nodes > Limits::DEFAULT.nodes {
                return self.fail(format!("more than {} nodes", Limits::DEFAULT.nodes));
            }
            self.node(&mut region, &mut numbers)?;
        }
        self.advance()?;
        let results = self.operands(&numbers)?;
        region.set_results(results);
        self.expect('}')?;
        self.depth -= 1;
        Ok(region)
    }

    fn fresh(&mut self, n: u32, numbers: &Numbers) -> Result<()> {
        if numbers.contains_key(&n) {
            return self.fail(format!("%{n} is defined twice"));
        }
        self.advance()?;
        Ok(())
    }

    fn node(&mut self, region: &mut Region, numbers: &mut Numbers) -> Result<()> {
        let mut results = IndexSet::new();
        if let Token::Value(_) = self.next {
            while let Token::Value(n) = self.next {
                self.fresh(n, numbers)?;
                if !results.insert(n) {
                    return self.fail(format!("%{n} is defined twice"));
                }
                if !self.accept(',')? {
                    break;
                }
            }
            self.expect('=')?;
        }
        let head = self.operation()?;
        let inputs = self.operands(numbers)?;
        let mut types = Vec::new();
        if self.accept(':')? {
            loop {
                types.push(self.ty()?);
                if !self.accept(',')? {
                    break;
                }
            }
        }
        if types.len() != results.len() {
            return self.fail(format!("{} results with {} types before this", results.len(), types.len()));
        }
        let origin = self.origin()?;
        let op = self.bodies(head)?;
        let id = region.push(op, &inputs, types, origin);
        numbers.extend(results.into_iter().zip(region.node(id).results.iter().copied()));
        Ok(())
    }

    fn operands(&mut self, numbers: &Numbers) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        while let Token::Value(n) = self.next {
            let Some(&value) = numbers.get(&n) else {
                return self.fail(format!("%{n} is not defined before this"));
            };
            values.push(value);
            self.advance()?;
            if !self.accept(',')? {
                break;
            }
        }
        Ok(values)
    }

    pub(super) fn origin(&mut self) -> Result<OriginId> {
        match self.next {
            Token::Origin(n) => {
                self.advance()?;
                Ok(OriginId(n))
            }
            _ => Ok(OriginId(0)),
        }
    }
}
