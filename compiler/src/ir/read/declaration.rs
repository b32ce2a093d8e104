//! The module and its declarations.

use std::sync::Arc;

use super::lexer::Token;
use super::{Reader, Result};
use crate::ir::module::*;
use crate::ir::types::{Elem, Type};

impl Reader<'_> {
    pub(super) fn module(&mut self, module: &mut Module) -> Result<()> {
        self.expect_word("module")?;
        module.name = self.text()?;
        module.title = self.text()?;
        loop {
            match self.next {
                Token::End => break,
                Token::Word("origin") => self.origin_line(module)?,
                Token::Word("config") => self.config(module)?,
                Token::Word("checkpoint") => self.checkpoint(module)?,
                Token::Word("axis") => self.axis(module)?,
                Token::Word("host") => self.host(module)?,
                Token::Word("weight") => self.weight(module)?,
                Token::Word("state") => self.state(module)?,
                Token::Word("entry") => self.entry(module)?,
                _ => return self.expected("a declaration"),
            }
        }
        if module.origins.is_empty() {
            Arc::make_mut(&mut module.origins).push(Origin::default());
        }
        Ok(())
    }

    fn origin_line(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        if self.next != Token::Origin(module.origins.len() as u32) {
            return self.expected(&format!("'@{}'", module.origins.len()));
        }
        self.advance()?;
        Arc::make_mut(&mut module.origins).push(Origin {
            file: self.text()?.into(),
            line: self.number("a line")?,
            column: self.number("a column")?,
            path: self.text()?.into(),
            chain: self.text()?.into(),
        });
        Ok(())
    }

    fn config(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        let key = self.text()?;
        let value = self.text()?;
        let treatment = match self.word("a treatment")? {
            "used" => Treatment::Used,
            "default" => Treatment::Default,
            "ignored" => Treatment::Ignored(self.text()?),
            "runtime" => Treatment::Runtime(self.text()?),
            "warned" => Treatment::Warned(self.text()?),
            word => return self.fail(format!("'{word}' before this is no treatment")),
        };
        module.config.push(ConfigUse { key, value, treatment });
        Ok(())
    }

    fn checkpoint(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        let rule = match self.word("a rule")? {
            "ignore" => {
                let (glob, why) = (self.text()?, self.text()?);
                let tensor = match self.accept_word("tensor")? {
                    true => Some(UnreadTensor { encoding: self.encoding()?, shape: self.sizes('[', ']')? }),
                    false => None,
                };
                let copy_of = if self.accept_word("copy")? { Some(self.text()?) } else { None };
                CheckpointRule::Ignore { glob, why, tensor, copy_of }
            }
            "strip" => CheckpointRule::Strip { prefix: self.text()? },
            "rename" => CheckpointRule::Rename { from: self.text()?, to: self.text()? },
            "choose" => CheckpointRule::Choose { key: self.text()?, why: self.text()? },
            word => return self.fail(format!("'{word}' before this is no rule")),
        };
        module.checkpoint.push(rule);
        Ok(())
    }

    fn axis(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        self.next_id("cache", module.axes.len())?;
        let path = self.text()?;
        let capacity = match self.word("a capacity")? {
            "unbounded" => AxisCapacity::Unbounded,
            word @ ("max" | "ring") => {
                self.expect('(')?;
                let n = self.size()?;
                self.expect(')')?;
                if word == "max" { AxisCapacity::Max(n) } else { AxisCapacity::Ring(n) }
            }
            word => return self.fail(format!("'{word}' before this is no capacity")),
        };
        module.add_axis(Axis { path, capacity });
        Ok(())
    }

    fn host(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        self.next_id("h", module.hosts.len())?;
        let name = self.text()?;
        let mut params = Vec::new();
        self.expect('(')?;
        while !self.is(')') {
            let name = self.text()?;
            self.expect(':')?;
            params.push((name, self.ty()?));
            if !self.accept(',')? {
                break;
            }
        }
        self.expect(')')?;
        if self.next != Token::Arrow {
            return self.expected("'->'");
        }
        self.advance()?;
        let result = self.ty()?;
        module.add_host(HostDecl { name, params, result });
        Ok(())
    }

    fn weight(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        self.next_id("w", module.weights.len())?;
        let path = self.text()?;
        let encoding = self.encoding()?;
        let shape = self.sizes('[', ']')?;
        let computed = self.accept_word("computed")?;
        let origin = self.origin()?;
        let source = if computed {
            self.expect('{')?;
            let region = self.labelled("body")?;
            self.expect('}')?;
            WeightSource::Computed(Arc::new(region))
        } else {
            WeightSource::Checkpoint
        };
        module.add_weight(WeightDecl { path, shape, encoding, source, origin });
        Ok(())
    }

    fn state(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        self.next_id("s", module.states.len())?;
        let path = self.text()?;
        let ty = self.ty()?;
        let initial = match self.word("what it starts as")? {
            "fill" => {
                self.expect('(')?;
                let value = self.number("a number")?;
                self.expect(')')?;
                Initial::Fill(value)
            }
            "weight" => {
                self.expect('(')?;
                let weight = WeightId(self.id("w")?);
                self.expect(')')?;
                Initial::Weight(weight)
            }
            "empty" => Initial::Empty,
            word => return self.fail(format!("'{word}' before this is no initial value")),
        };
        let instances = if self.accept_word("instances")? { self.sizes('[', ']')? } else { Vec::new() };
        let held = self.accept_word("held")?;
        let stored = if self.accept_word("stored")? {
            self.expect('(')?;
            let name = self.word("an element")?;
            self.expect(')')?;
            match Elem::from_name(name) {
                Some(elem) => elem,
                None => return self.fail(format!("'{name}' before this is no element")),
            }
        } else {
            ty.elem
        };
        let origin = self.origin()?;
        module.add_state(StateDecl { path, ty, initial, instances, held, stored, origin });
        Ok(())
    }

    fn entry(&mut self, module: &mut Module) -> Result<()> {
        self.advance()?;
        self.next_id("e", module.entries.len())?;
        let name = self.text()?;
        let within = if self.accept_word("within")? { Some(self.id("e")? as usize) } else { None };
        let start = if self.accept_word("start")? {
            self.expect('(')?;
            let mut elements = Vec::new();
            while !self.is(')') {
                elements.push(self.number("an element")?);
                if !self.accept(',')? {
                    break;
                }
            }
            self.expect(')')?;
            let only_if_empty = self.accept_word("if_empty")?;
            Some(Start { elements, only_if_empty })
        } else {
            None
        };
        let lifted = self.accept_word("lifted")?;
        self.expect('{')?;
        let mut params = Vec::new();
        while self.accept_word("in")? {
            params.push(self.param()?);
        }
        let mut outputs = Vec::new();
        while self.accept_word("out")? {
            let name = self.text()?;
            self.expect(':')?;
            outputs.push(OutputDecl { name, ty: self.ty()? });
        }
        let body = self.labelled("body")?;
        self.expect('}')?;
        module.entries.push(Entry { name, within, start, params, outputs, body, lifted });
        Ok(())
    }

    fn param(&mut self) -> Result<Param> {
        let name = self.text()?;
        let kind = match self.word("a kind of parameter")? {
            "stream" => ParamKind::Stream,
            "value" => ParamKind::Value,
            "position" => ParamKind::Position,
            "outer" => {
                let output = self.bracketed_text()?;
                ParamKind::Outer { output }
            }
            "input" => {
                let mut default = None;
                if self.accept('(')? {
                    default = Some(self.literal()?);
                    self.expect(')')?;
                }
                ParamKind::Input { default }
            }
            "given" => {
                let input = self.bracketed_text()?;
                ParamKind::Given { input }
            }
            word => return self.fail(format!("'{word}' before this is no kind of parameter")),
        };
        let range = if self.accept_word("range")? {
            self.expect('(')?;
            let low = self.number("a number")?;
            self.expect(',')?;
            let high = self.number("a number")?;
            self.expect(')')?;
            Some((low, high))
        } else {
            None
        };
        self.expect(':')?;
        let ty: Type = self.ty()?;
        Ok(Param { name, ty, kind, range })
    }

    fn bracketed_text(&mut self) -> Result<String> {
        self.expect('(')?;
        let text = self.text()?;
        self.expect(')')?;
        Ok(text)
    }
}
