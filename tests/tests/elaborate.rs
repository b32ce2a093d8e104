//! Every preset of the model library elaborates to a module that verifies, with the weights that
//! the checkpoints of those models have.

use sterna_compiler::diagnostics::{SourceFiles, Style, render};
use sterna_compiler::ir;
use sterna_compiler::lang::{Compiled, Library, Options};

fn compiled(name: &str) -> Compiled {
    let mut files = SourceFiles::new();
    match Library::embedded().compile_preset(&mut files, name, &Options::default()) {
        Ok(compiled) => compiled,
        Err(errors) => panic!("{name}:\n{}", render(&errors, &files, Style::Plain)),
    }
}

#[test]
fn every_preset_elaborates_and_verifies() {
    for name in sterna_compiler::lang::presets() {
        let module = compiled(&name).module;
        if let Err(problems) = ir::verify::verify(&module) {
            panic!("{name}: {problems:?}");
        }
    }
}
