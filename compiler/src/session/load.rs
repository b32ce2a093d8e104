//! From names on a command line to a session: which graph, which config, which weights.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sterna_runtime::package::{Mapping, Package, WeightsMemory};

use super::agreement::{configs_agree, saved_values};
use super::{Held, PREPARED, Result, Session, SessionError};
use crate::config;
use crate::diagnostics::{Code, Diagnostic, Diagnostics, SourceFiles, Style, nearest, render};
use crate::input_file;
use crate::ir::{Elem, Module, verify::verify};
use crate::lang::checkpoint::{self, TensorInfo};
use crate::lang::rename::{RenameMap, propose};
use crate::lang::{self, Library};
use crate::package::{check_scales, module_of};
use crate::passes::{
    self,
    probes::{self, Observation},
};
use crate::weights::{self, Binding, Checkpoint, TensorEntry};

/// The model that runs when none is named.
const BUNDLED: &[u8] = include_bytes!("../../../examples/tiny/tiny.sterna");

/// Which model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// The tiny model that comes with the compiler.
    Bundled,
    /// A JSON config.
    File(PathBuf),
    /// The JSON config that a checkpoint carries or that lies beside it, with the name its mistakes are shown under.
    /// Where a training wrote values beside the weights, they come before it.
    Own { name: String, text: String },
    /// A preset, `model/name` or just `name`.
    Preset(String),
    /// A package.
    Package(PathBuf),
}

impl ModelSource {
    /// What a name on the command line stands for.
    pub fn named(path: &Path) -> ModelSource {
        // A pipe, such as a shell's `<(...)`, is no regular file and may hold a config all the same.
        let holds_text = || std::fs::metadata(path).is_ok_and(|found| !found.is_dir());
        match path.extension().and_then(|e| e.to_str()) {
            Some("sterna") => ModelSource::Package(path.into()),
            Some("json") => ModelSource::File(path.into()),
            _ if holds_text() => ModelSource::File(path.into()),
            _ => ModelSource::Preset(path.to_string_lossy().into_owned()),
        }
    }
}

/// Where the weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum WeightsSource {
    /// Nobody asks for them: random ones serve, and optional ones do not exist.
    #[default]
    None,
    /// Random numbers of this seed.
    Random(u64),
    /// A checkpoint.
    File(PathBuf),
}

/// How the entries of caches lie in memory (spec/numerics.md, States and time).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CacheFormat {
    /// As they are computed.
    F32,
    /// Rounded to nearest even.
    Bf16,
}

impl CacheFormat {
    fn elem(self) -> Elem {
        match self {
            CacheFormat::F32 => Elem::F32,
            CacheFormat::Bf16 => Elem::Bf16,
        }
    }
}

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// The graph that a config is for, where its keys do not tell.
    pub model: Option<String>,
    /// A folder of graph files that replace or add to the built-in ones.
    pub graphs: Option<PathBuf>,
    /// The weights.
    pub weights: WeightsSource,
    /// Take weights that are not finite as they are.
    pub allow_nan: bool,
    /// Where the weights of a package lie while it runs.
    pub memory: WeightsMemory,
    /// A map of tensor names that comes before the graph's own rules.
    pub rename: Option<PathBuf>,
    /// Globs of the probes to observe: they become outputs of their entries.
    pub observe: Vec<String>,
    /// How caches are stored; none for f32, or for what a package says.
    pub cache: Option<CacheFormat>,
}

/// What became of a checkpoint's tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TensorReport {
    /// Names of those read.
    pub read: Vec<String>,
    /// Names of those not needed, with the reason.
    pub ignored: Vec<(String, String)>,
    /// The key of the file under which they stand, if not all of the file is tensors.
    pub key: Option<String>,
    /// What else the file holds, unread.
    pub beside: Vec<String>,
}

/// All presets as `model/name`.
///
/// # Errors
/// A graph file of the folder cannot be read or parsed.
pub fn preset_names(graphs: Option<&Path>) -> Result<Vec<String>> {
    let mut files = SourceFiles::new();
    library(graphs)?.presets(&mut files).map_err(|d| drawn(&d, &files))
}

pub(super) fn library(graphs: Option<&Path>) -> Result<Library> {
    match graphs {
        None => Ok(Library::embedded()),
        Some(folder) => Library::with_directory(folder).map_err(|d| drawn(&d, &SourceFiles::new())),
    }
}

/// Colours only where a person sees them.
fn style() -> Style {
    use std::io::IsTerminal;
    if std::io::stderr().is_terminal() { Style::Coloured } else { Style::Plain }
}

pub(super) fn drawn(diagnostics: &Diagnostics, files: &SourceFiles) -> SessionError {
    SessionError::Diagnostics(render(diagnostics, files, style()))
}

impl Session {
    /// Loads a model.
    ///
    /// # Errors
    /// Anything wrong with the config, the graph, the checkpoint or the package.
    pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Session> {
        match source {
            ModelSource::Bundled if options.weights == WeightsSource::None || is_random(options) => {
                Session::from_package(
                    Package::from_mapping(Mapping::copy_of(BUNDLED)?)?.with_weights_in(options.memory)?,
                    options,
                )
            }
            ModelSource::Package(path) if options.weights == WeightsSource::None || is_random(options) => {
                Session::from_package(Package::open(path)?.with_weights_in(options.memory)?, options)
            }
            ModelSource::Bundled | ModelSource::Package(_) => {
                Err(SessionError::NoModel("a package has its own weights; leave out the checkpoint".into()))
            }
            ModelSource::File(path) => {
                weights::is_no_config(path)?;
                let text = input_file::read_text(path, input_file::JSON)
                    .map_err(|source| SessionError::Read { path: path.clone(), source })?;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Session::from_config(Config::Text { name, text, own: false }, options)
            }
            ModelSource::Own { name, text } => {
                Session::from_config(Config::Text { name: name.clone(), text: text.clone(), own: true }, options)
            }
            ModelSource::Preset(name) => Session::from_config(Config::Preset(name.clone()), options),
        }
    }

    fn from_package(package: Package, options: &LoadOptions) -> Result<Session> {
        let (mut module, section) = module_of(&package)?;
        if let Some(named) = &options.model
            && *named != module.name
        {
            let why = format!("--model {named}: the package has a graph of its own, {}", module.name);
            return Err(SessionError::NoModel(why));
        }
        if !options.allow_nan {
            check_scales(&package, &module, &section)?;
        }
        let observation = observe(&mut module, &options.observe)?;
        if let Some(cache) = options.cache {
            module.store_caches(cache.elem());
        }
        let module = Arc::new(module);
        Ok(Session {
            files: SourceFiles::new(),
            warnings: Diagnostics::new(),
            config: package.header().config.clone(),
            elaborated: module.clone(),
            prepared: module,
            observation,
            held: Held::Package { package: Arc::new(package), section },
            tensors: None,
            memory_weights: OnceLock::new(),
        })
    }

    fn from_config(config: Config, options: &LoadOptions) -> Result<Session> {
        let mut files = SourceFiles::new();
        let library = library(options.graphs.as_deref())?;
        let checkpoint = match &options.weights {
            WeightsSource::File(path) => Some(Checkpoint::open(path)?),
            _ => None,
        };
        let renames = options.rename.as_deref().map(rename_map).transpose()?.unwrap_or_default();
        let tensors = checkpoint.as_ref().map(|c| c.tensors().iter().map(|t| renames.apply(&t.name)).collect());
        let saved = match (&checkpoint, &options.weights) {
            (Some(checkpoint), WeightsSource::File(path)) => saved(&mut files, path, checkpoint, config.is_own())?,
            _ => None,
        };
        let elaborating = lang::Options { tensors, saved, ..lang::Options::default() };
        let compiled = match config {
            Config::Preset(name) => {
                let preset = find_preset(&library, &name, options.model.as_deref())?;
                library.compile_preset(&mut files, &preset, &elaborating)
            }
            Config::Text { name, text, .. } => {
                let file = files.add(name, text);
                library.compile_config(&mut files, options.model.as_deref(), file, &elaborating)
            }
        };
        let lang::Compiled { module: mut elaborated, config, mut warnings } =
            compiled.map_err(|d| drawn(&d, &files))?;
        let observation = observe(&mut elaborated, &options.observe)?;
        if let Some(cache) = options.cache {
            elaborated.store_caches(cache.elem());
        }
        // Elaboration has verified what it gave.
        if options.cache.is_some() || !options.observe.is_empty() {
            verify(&elaborated)?;
        }
        let mut prepared = elaborated.clone();
        passes::run_pipeline(&mut prepared, Some(PREPARED))?;
        let mut tensors = None;
        let held = match checkpoint {
            Some(checkpoint) => {
                if let WeightsSource::File(path) = &options.weights {
                    configs_agree(&elaborated, path, &checkpoint)?;
                }
                let (report, noted) = fitted(&prepared, &checkpoint, &renames, &files)?;
                warnings.append(noted);
                tensors = Some(report);
                Held::Checkpoint {
                    checkpoint: Box::new(checkpoint),
                    renames,
                    allow_nan: options.allow_nan,
                    memory: options.memory,
                }
            }
            None => Held::Random(if let WeightsSource::Random(seed) = options.weights { seed } else { 0 }),
        };
        Ok(Session {
            files,
            warnings,
            config: config.to_value(),
            elaborated: Arc::new(elaborated),
            prepared: Arc::new(prepared),
            observation,
            held,
            tensors,
            memory_weights: OnceLock::new(),
        })
    }

    /// The same model with another checkpoint, opened from `path`, whose tensors have the same names.
    ///
    /// # Errors
    /// The checkpoint does not fit, or this model has not come from one.
    pub fn with_checkpoint(&self, path: &Path, checkpoint: Checkpoint) -> Result<Session> {
        let Held::Checkpoint { renames, allow_nan, memory, .. } = &self.held else {
            return Err(SessionError::NoModel("the model has not come from a checkpoint".into()));
        };
        configs_agree(&self.elaborated, path, &checkpoint)?;
        let (tensors, _) = fitted(&self.prepared, &checkpoint, renames, &self.files)?;
        Ok(Session {
            files: self.files.clone(),
            warnings: self.warnings.clone(),
            config: self.config.clone(),
            elaborated: self.elaborated.clone(),
            prepared: self.prepared.clone(),
            observation: self.observation.clone(),
            held: Held::Checkpoint {
                checkpoint: Box::new(checkpoint),
                renames: renames.clone(),
                allow_nan: *allow_nan,
                memory: *memory,
            },
            tensors: Some(tensors),
            memory_weights: OnceLock::new(),
        })
    }

    /// What elaboration warned of, drawn; empty if nothing.
    pub fn rendered_warnings(&self) -> String {
        if self.warnings.is_empty() { String::new() } else { render(&self.warnings, &self.files, style()) }
    }
}

/// Makes the probes that match the globs outputs; each glob must find one.
fn observe(module: &mut Module, globs: &[String]) -> Result<Observation> {
    if globs.is_empty() {
        return Ok(Observation::default());
    }
    let wanted = |path: &str| globs.iter().any(|glob| checkpoint::matches_glob(glob, path));
    let found = probes::observe(module, wanted);
    for glob in globs {
        if !found.observed.iter().any(|o| checkpoint::matches_glob(glob, &o.path)) {
            let hidden = found.hidden.iter().find(|(path, _)| checkpoint::matches_glob(glob, path));
            let why = hidden.map_or_else(
                || "no probe of this model has such a path".to_owned(),
                |(path, why)| format!("`{path}` cannot be observed: {why}"),
            );
            return Err(SessionError::NoProbe { glob: glob.clone(), why });
        }
    }
    Ok(found)
}

enum Config {
    Preset(String),
    Text { name: String, text: String, own: bool },
}

impl Config {
    /// Whether it is the checkpoint's own.
    fn is_own(&self) -> bool {
        matches!(self, Config::Text { own: true, .. })
    }
}

/// What elaboration may take from a checkpoint, as a text of its own in which mistakes are shown.
fn saved(files: &mut SourceFiles, path: &Path, checkpoint: &Checkpoint, own: bool) -> Result<Option<lang::Saved>> {
    let values = saved_values(checkpoint, own);
    if values.is_empty() {
        return Ok(None);
    }
    let name = format!("values saved in {}", path.file_name().unwrap_or_default().to_string_lossy());
    let file = files.add(name, format!("{:#}", serde_json::Value::Object(values)));
    let mut diagnostics = Diagnostics::new();
    match config::read(files, file, &mut diagnostics) {
        Some(values) => Ok(Some(lang::Saved { values, before_config: own })),
        None => Err(drawn(&diagnostics, files)),
    }
}

fn is_random(options: &LoadOptions) -> bool {
    matches!(options.weights, WeightsSource::Random(_))
}

/// The full name of a preset, given with or without the model in front.
fn find_preset(library: &Library, name: &str, model: Option<&str>) -> Result<String> {
    let mut files = SourceFiles::new();
    let all = library.presets(&mut files).map_err(|d| drawn(&d, &files))?;
    let short = |full: &str| full.split_once('/').map_or(String::new(), |(_, preset)| preset.to_owned());
    let wanted = |full: &&String| {
        let owner = full.split_once('/').map_or("", |(owner, _)| owner);
        model.is_none_or(|m| m == owner) && (full.as_str() == name || short(full) == name)
    };
    let found: Vec<&str> = all.iter().filter(wanted).map(String::as_str).collect();
    match found.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => {
            let shorts: Vec<String> = all.iter().map(|full| short(full)).collect();
            let near = nearest(name, all.iter().chain(&shorts).map(String::as_str));
            if Path::new(name).is_dir() {
                let why =
                    format!("`{name}` is a folder: give a config in it; the folder of a checkpoint goes to --weights");
                return Err(SessionError::NoModel(why));
            }
            if let (Some(model), Some(other)) = (model, all.iter().find(|full| short(full) == name)) {
                return Err(SessionError::NoModel(format!(
                    "--model {model}: it has no preset `{name}`, there is {other}"
                )));
            }
            let help = near.map_or_else(String::new, |n| format!("; the nearest preset is `{n}`"));
            Err(SessionError::NoModel(format!("`{name}` is neither a file nor a preset{help}")))
        }
        many => Err(SessionError::NoModel(format!("`{name}` may be {}", many.join(" or ")))),
    }
}

/// What becomes of a checkpoint's tensors, if it is one of this model, and what should be said about them.
fn fitted(
    prepared: &Module,
    checkpoint: &Checkpoint,
    renames: &RenameMap,
    files: &SourceFiles,
) -> Result<(TensorReport, Diagnostics)> {
    let binding = bound(prepared, checkpoint, renames, files)?;
    let noted = notes(checkpoint, &binding);
    let name = |index: &usize| checkpoint.tensors()[*index].name.clone();
    let ignored = binding.ignored.iter().map(|(index, why)| (name(index), why.clone()));
    let report = TensorReport {
        read: binding.tensors.iter().flatten().map(name).collect(),
        ignored: ignored.collect(),
        key: checkpoint.key().map(str::to_owned),
        beside: checkpoint.unread().to_vec(),
    };
    Ok((report, noted))
}

/// What of a checkpoint is left aside although somebody may have meant it.
fn notes(checkpoint: &Checkpoint, binding: &Binding) -> Diagnostics {
    let mut noted = Diagnostics::new();
    let mut note = |title: String| noted.push(Diagnostic::warning(Code::NotTaken, title));
    if let (Some(key), [_, ..]) = (checkpoint.key(), checkpoint.other_keys()) {
        let others = checkpoint.other_keys().join("`, `");
        note(format!("the weights are those under `{key}`; there are others under `{others}`"));
    }
    let tensors = checkpoint.tensors();
    for &(copy, original) in &binding.copies {
        let (copy, original) = (&tensors[copy], &tensors[original]);
        if !checkpoint.same_values(copy, original) {
            let (copy, original) = (&copy.name, &original.name);
            note(format!("{copy} is left aside for {original}, which it should be a copy of, and differs from it"));
        }
    }
    for (index, why) in &binding.ignored {
        let tensor = &tensors[*index];
        if tensor.is_lone_float() && tensor.spare().as_ref() == Some(why) {
            note(format!("nothing reads {}, a single number", tensor.name));
        }
    }
    noted
}

/// Matches a checkpoint with a module; what does not fit is drawn with its place in the graph.
pub(super) fn bound(
    module: &Module,
    checkpoint: &Checkpoint,
    renames: &RenameMap,
    files: &SourceFiles,
) -> Result<Binding> {
    let described = |name: fn(&RenameMap, &str) -> String| -> Vec<TensorInfo> {
        let describe = |entry: &TensorEntry| TensorInfo {
            name: name(renames, &entry.name),
            shape: entry.shape.clone(),
            detail: entry.stored.name().to_owned(),
            unusable: entry.unusable(),
            spare: entry.spare(),
        };
        checkpoint.tensors().iter().map(describe).collect()
    };
    checkpoint::bind(files, module, &described(RenameMap::apply)).map_err(|diagnostics| SessionError::Tensors {
        text: drawn(&diagnostics, files).to_string(),
        rename: propose(module, &described(|_, name| name.to_owned())).unwrap_or_default(),
    })
}

fn rename_map(path: &Path) -> Result<RenameMap> {
    let read = input_file::read_text(path, input_file::JSON);
    let text = read.map_err(|source| SessionError::Read { path: path.into(), source })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    RenameMap::parse(text).map_err(|source| SessionError::Rename { path: path.into(), source })
}
