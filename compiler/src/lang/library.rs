//! The graph files that models and imports are found in: those embedded in the program, and a
//! folder that may replace or add to them. Here a model, a preset or a config becomes a module.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;

use super::ast::{self, FileKind, Item};
use super::elaborate::{self, Options};
use crate::config::{self, Json};
use crate::diagnostics::{Code, Diagnostic, Diagnostics, FileId, SourceFiles, nearest};
use crate::input_file;
use crate::ir::Module;

/// The graph files that come with the program: file name and text.
const EMBEDDED: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/graphs.rs"));

/// Graph texts by the name of their model or library (the file's name without `.graph`).
#[derive(Clone, Debug)]
pub struct Library {
    texts: IndexMap<String, (String, Arc<str>)>,
}

/// A model file and what it imports, parsed.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The model.
    pub model: ast::File,
    /// Every library that it imports, directly or not.
    pub libraries: Vec<ast::File>,
}

impl Default for Library {
    fn default() -> Library {
        Library::embedded()
    }
}

impl Library {
    /// The graph files that come with the program.
    pub fn embedded() -> Library {
        let mut library = Library { texts: IndexMap::new() };
        for (file, text) in EMBEDDED {
            library.add(*file, *text);
        }
        library
    }

    /// The embedded files, replaced and joined by the `.graph` files of a folder.
    ///
    /// # Errors
    /// The folder or one of its files cannot be read as UTF-8 text.
    pub fn with_directory(folder: &Path) -> Result<Library, Diagnostics> {
        let unreadable = |path: &Path, error: std::io::Error| -> Diagnostics {
            let title = format!("{} cannot be read: {error}", path.display());
            Diagnostic::error(Code::MissingFile, title).into()
        };
        let mut library = Library::embedded();
        let entries = std::fs::read_dir(folder).map_err(|e| unreadable(folder, e))?;
        let mut paths: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "graph"))
            .collect();
        paths.sort();
        for path in paths {
            let text = input_file::read_text(&path, input_file::JSON).map_err(|e| unreadable(&path, e))?;
            let file = path.file_name().map_or_else(Default::default, |n| n.to_string_lossy().into_owned());
            library.add(file, text);
        }
        Ok(library)
    }

    /// Adds or replaces a graph file; `file` is the name that diagnostics show, ending in `.graph`.
    pub fn add(&mut self, file: impl Into<String>, text: impl Into<Arc<str>>) {
        let file = file.into();
        let base = file.rsplit('/').next().unwrap_or(&file);
        let name = base.strip_suffix(".graph").unwrap_or(base).to_string();
        self.texts.insert(name, (file, text.into()));
    }

    /// The names of all graph files, libraries included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// Parses a model and everything it imports.
    ///
    /// # Errors
    /// Every syntax error of the files, an unknown model or import, a model where a library is needed.
    pub fn load(&self, files: &mut SourceFiles, model: &str) -> Result<Graph, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let Some((file, text)) = self.texts.get(model) else {
            let near = nearest(model, self.names());
            let title = format!("no model `{model}`");
            return Err(Diagnostic::error(Code::MissingFile, title)
                .help_if(near.map(|near| format!("nearest model: `{near}`")))
                .into());
        };
        let id = files.add(file.clone(), text.clone());
        let parsed = super::parse(files, id, &mut diagnostics);
        let mut libraries: Vec<ast::File> = Vec::new();
        let mut wanted: Vec<ast::Import> = parsed.iter().flat_map(imports).collect();
        let mut seen: Vec<Arc<str>> = Vec::new();
        while let Some(import) = wanted.pop() {
            let name = &import.library;
            if seen.contains(&name.text) {
                continue;
            }
            seen.push(name.text.clone());
            let Some((file, text)) = self.texts.get(name.as_str()) else {
                let near = nearest(name.as_str(), self.names());
                diagnostics.push(
                    Diagnostic::error(Code::UnknownLibrary, format!("no library `{}`", name.as_str()))
                        .at(name.span, "not found")
                        .help_if(near.map(|near| format!("nearest library: `{near}`"))),
                );
                continue;
            };
            let id = files.add(file.clone(), text.clone());
            let Some(library) = super::parse(files, id, &mut diagnostics) else {
                continue;
            };
            if library.kind != FileKind::Library {
                diagnostics.push(
                    Diagnostic::error(Code::UnknownLibrary, format!("`{}` is a model, not a library", name.as_str()))
                        .at(name.span, "imported here"),
                );
                continue;
            }
            wanted.extend(imports(&library));
            libraries.push(library);
        }
        match parsed {
            Some(model) if !diagnostics.has_errors() => {
                if model.kind != FileKind::Model {
                    let name = &model.name;
                    return Err(Diagnostic::error(
                        Code::MissingFile,
                        format!("`{}` is a library, not a model", name.as_str()),
                    )
                    .at(name.span, "declared here")
                    .into());
                }
                Ok(Graph { model, libraries })
            }
            _ => Err(diagnostics),
        }
    }

    /// All presets as `model/preset`, in the order of the files.
    ///
    /// # Errors
    /// A graph file that does not parse.
    pub fn presets(&self, files: &mut SourceFiles) -> Result<Vec<String>, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let mut out = Vec::new();
        for (name, (file, text)) in &self.texts {
            let id = files.add(file.clone(), text.clone());
            if let Some(parsed) = super::parse(files, id, &mut diagnostics) {
                out.extend(config::preset_names(&parsed).map(|preset| format!("{name}/{}", preset.as_str())));
            }
        }
        diagnostics.into_result(out).map(|(out, _)| out)
    }

    /// The module of a preset named `model/preset`, with its config.
    ///
    /// # Errors
    /// Everything wrong with the graph, the preset or their combination.
    pub fn compile_preset(
        &self,
        files: &mut SourceFiles,
        name: &str,
        options: &Options,
    ) -> Result<Compiled, Diagnostics> {
        let Some((model, preset)) = name.split_once('/') else {
            let title = format!("no preset `{name}`: presets are named `model/preset`");
            return Err(Diagnostic::error(Code::UnknownPreset, title).into());
        };
        let graph = self.load(files, model)?;
        let mut diagnostics = Diagnostics::new();
        match config::preset(&graph.model, preset, &mut diagnostics) {
            Some(config) => graph.compile(files, config, options),
            None => Err(diagnostics),
        }
    }

    /// The module of a JSON config for a model of the library. Without a model, the one whose keys
    /// fit the config is taken.
    ///
    /// # Errors
    /// Everything wrong with the graph, the config or their combination.
    pub fn compile_config(
        &self,
        files: &mut SourceFiles,
        model: Option<&str>,
        config: FileId,
        options: &Options,
    ) -> Result<Compiled, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let Some(json) = config::read(files, config, &mut diagnostics) else {
            return Err(diagnostics);
        };
        let model = match model {
            Some(model) => model.to_string(),
            None => self.model_for(files, &json)?,
        };
        let graph = self.load(files, &model)?;
        graph.compile(files, json, options)
    }

    /// The model whose declared keys fit a config best.
    ///
    /// # Errors
    /// A file cannot be parsed, so that the model meant may be in it; none fits, or two fit equally well.
    fn model_for(&self, files: &mut SourceFiles, config: &Json) -> Result<String, Diagnostics> {
        let mut unread = Diagnostics::new();
        let mut best: Vec<(usize, String)> = Vec::new();
        for (name, (file, text)) in &self.texts {
            let id = files.add(file.clone(), text.clone());
            let parsed = super::parse(files, id, &mut unread);
            if let Some(score) = parsed.as_ref().and_then(|p| fitness(p, config)) {
                best.push((score, name.clone()));
            }
        }
        if unread.has_errors() {
            return Err(unread);
        }
        best.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
        let names: Vec<&str> = best.iter().map(|(_, name)| name.as_str()).collect();
        match best.as_slice() {
            [(_, only)] => Ok(only.clone()),
            [(a, first), (b, _), ..] if a > b => Ok(first.clone()),
            [] => Err(self.no_model(files, config).into()),
            _ => Err(Diagnostic::error(
                Code::MissingFile,
                format!("this config fits several models: {}", names.join(", ")),
            )
            .help("name the model")
            .into()),
        }
    }
}

impl Library {
    /// Why no model fits: no keys, one that is misspelt, or those of something else.
    fn no_model(&self, files: &mut SourceFiles, config: &Json) -> Diagnostic {
        let unfit = |title: &str, span| Diagnostic::error(Code::MissingFile, title).at(span, "");
        let Some(object) = config.as_object() else {
            return unfit("a config is an object of keys with values", config.span);
        };
        if object.properties.is_empty() {
            let help = "give keys, or a preset by its name: `sterna presets` lists them";
            return unfit("a config without keys tells no model", config.span).help(help);
        }
        let mut declared: Vec<(String, String)> = Vec::new();
        for (name, (file, text)) in &self.texts {
            let id = files.add(file.clone(), text.clone());
            let parsed = super::parse(files, id, &mut Diagnostics::new());
            let keys = parsed.as_ref().into_iter().flat_map(named_keys);
            declared.extend(keys.map(|key| (key.to_owned(), name.clone())));
        }
        let unknown = object.properties.iter().filter(|p| declared.iter().all(|(key, _)| **key != *p.key));
        let near = unknown.filter_map(|property| {
            let near = nearest(&property.key, declared.iter().map(|(key, _)| key.as_str()))?;
            let (_, model) = declared.iter().find(|(key, _)| key == near)?;
            Some((property, format!("nearest key: `{near}` of {model}")))
        });
        match near.take(1).next() {
            Some((property, help)) => unfit(NO_MODEL, property.key_span).help(help),
            None => unfit(NO_MODEL, config.span).help("--model NAME says which one is meant, and what it lacks"),
        }
    }
}

const NO_MODEL: &str = "no model has the keys of this config";

/// The keys that a model declares by name at the top level.
fn named_keys(file: &ast::File) -> impl Iterator<Item = &str> {
    let configs =
        file.items.iter().filter_map(|item| if let Item::Config(config) = item { Some(config) } else { None });
    let keys = configs.flat_map(|config| &config.keys).flat_map(|decl| &decl.keys);
    keys.filter_map(|key| if let ast::Key::Named(name) = key { Some(name.as_str()) } else { None })
}

/// A module with what it was made from.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The elaborated model.
    pub module: Module,
    /// The complete config, as given or from the preset, with values saved in the checkpoint where it leaves them open.
    pub config: Json,
    /// Warnings only.
    pub warnings: Diagnostics,
}

impl Graph {
    /// The module for a config.
    ///
    /// # Errors
    /// Everything wrong with the config or the graph.
    pub fn compile(&self, files: &SourceFiles, config: Json, options: &Options) -> Result<Compiled, Diagnostics> {
        let libraries: Vec<&ast::File> = self.libraries.iter().collect();
        let config = match &options.saved {
            Some(saved) => saved.complete(&self.model, config),
            None => config,
        };
        let (module, warnings) = elaborate::elaborate(files, &self.model, &libraries, &config, options)?;
        Ok(Compiled { module, config, warnings })
    }
}

/// The library among those that come with the program that declares a block of this name.
pub(super) fn embedded_with_block(block: &str) -> Option<&'static str> {
    let declares = |text: &str| {
        let rests = text.split("\nblock ").skip(1);
        rests.filter_map(|rest| rest.strip_prefix(block)).any(|rest| rest.starts_with(['[', '(', ' ']))
    };
    let libraries = EMBEDDED.iter().filter_map(|(_, text)| Some((text.strip_prefix("library ")?, text)));
    let found = libraries.filter(|(_, text)| declares(text)).map(|(rest, _)| rest).next()?;
    found.split_whitespace().next()
}

fn imports(file: &ast::File) -> impl Iterator<Item = ast::Import> + '_ {
    file.items.iter().filter_map(|item| match item {
        Item::Import(import) => Some(import.clone()),
        _ => None,
    })
}

/// How well a model's declared keys fit a config: the keys they share, less those that only one of them has or that the
/// model gives another constant. Nothing if they differ more than they agree; what a mistaken config lacks, its own
/// model's errors say best.
fn fitness(file: &ast::File, config: &Json) -> Option<usize> {
    let object = config.as_object()?;
    let decls = file.items.iter().find_map(|item| match item {
        Item::Config(config) => Some(&config.keys),
        _ => None,
    })?;
    let (mut shared, mut differing) = (0, object.properties.len());
    for decl in decls {
        for key in &decl.keys {
            let ast::Key::Named(name) = key else { continue };
            let given = object.get(name.as_str());
            if given.is_some() {
                differing = differing.saturating_sub(1);
                shared += usize::from(!decl.any_depth);
            }
            let ast::KeyBody::Value { ty, default } = &decl.body else {
                continue;
            };
            match given {
                None => differing += usize::from(default.is_none() && !decl.any_depth),
                Some(property) => differing += usize::from(contradicts(ty, &property.value)),
            }
        }
    }
    shared.checked_sub(differing).filter(|&score| score > 0)
}

/// Whether the only value that a key may have is another text: such a constant names the model.
fn contradicts(ty: &ast::KeyType, value: &Json) -> bool {
    let [only] = ty.alternatives.as_slice() else { return false };
    let ast::KeyForm::Literal(literal) = &only.form else { return false };
    matches!(&literal.value, ast::Value::Text(text) if value.as_str() != Some(text))
}
