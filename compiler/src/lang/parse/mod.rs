//! From graph text to the syntax tree, with syntax errors for people. In order: `layout` (brackets,
//! comments, line breaks), the grammar, one statement of model level at a time (`recover` goes on
//! after a mistake, `expected` puts it into words), the tree (`statements`, `config`, `expressions`)
//! and `placement` (which statement may stand where).

mod config;
mod expected;
mod expressions;
mod layout;
mod placement;
mod recover;
mod statements;
mod tree;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod spec;
#[cfg(test)]
mod tests;

use super::ast::{File, FileKind};
use crate::diagnostics::{Code, Diagnostic, Diagnostics, FileId, SourceFiles, Span};
use crate::limits::Limits;
use tree::{Builder, Children, Rule};

/// Bytes of a graph file at most.
const LARGEST: usize = Limits::DEFAULT.file;

/// Parses one graph file. Every syntax error found is reported; the tree is given only if there is
/// none.
pub fn parse(files: &SourceFiles, file: FileId, diagnostics: &mut Diagnostics) -> Option<File> {
    let source = files.get(file);
    if source.text().len() > LARGEST {
        let title = format!("{} is larger than {LARGEST} bytes", source.name());
        diagnostics.push(Diagnostic::error(Code::TooLarge, title));
        return None;
    }
    let mut found = Diagnostics::new();
    let tree = parse_text(source.text(), file, &mut found);
    let tree = tree.filter(|_| !found.has_errors());
    diagnostics.append(found);
    tree
}

fn parse_text(text: &str, file: FileId, diagnostics: &mut Diagnostics) -> Option<File> {
    let mut laid = layout::layout(text, file, diagnostics)?;
    let statements = std::mem::take(&mut laid.statements);
    let Some((header, rest)) = statements.split_first() else {
        let error = Diagnostic::error(Code::Syntax, "this file is empty")
            .at(Span::new(file, 0..0), "expected `model name` or `library name`");
        diagnostics.push(error);
        return None;
    };
    let mut tree = None;
    let mut recover = recover::Recover { laid: &mut laid, file, diagnostics };
    recover.statement(Rule::header_only, header.clone(), |pair, builder| {
        let mut children = Children::of(pair);
        let kind = match children.next().as_rule() {
            Rule::k_model => FileKind::Model,
            _ => FileKind::Library,
        };
        let name = builder.name(&children.next());
        let title = children.any().map(|text| builder.text(&text));
        tree = Some(File { file, kind, name, title, items: Vec::new() });
    });
    let mut items = Vec::with_capacity(rest.len());
    for statement in rest {
        recover.statement(Rule::item_only, statement.clone(), |pair, builder: &mut Builder<'_>| {
            items.push(builder.item(pair));
        });
    }
    let mut tree = tree?;
    tree.items = items;
    placement::check(&tree, diagnostics);
    Some(tree)
}
