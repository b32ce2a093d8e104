//! Options that several commands share, and how they become a session.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sterna_runtime::package::WeightsMemory;
use sterna_runtime::system::MAX_THREADS;
use sterna_runtime::{Decoder, Pool};

use super::{Failure, output};
use crate::session::{
    self, CacheFormat, CompileOptions, LoadOptions, ModelSource, Session, SessionError, Tokenizer, WeightsSource,
};

/// Which model.
#[derive(clap::Args, Clone)]
pub struct ModelArguments {
    /// A JSON config, a preset, or a .sterna package; without it the config inside or beside the checkpoint given, and
    /// without one the bundled tiny model.
    pub config: Option<PathBuf>,
    /// The graph that a JSON config is for; by default the one whose config section fits it best.
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// A folder of graph files that replace or add to the built-in ones.
    #[arg(long, value_name = "DIR")]
    pub graphs: Option<PathBuf>,
}

/// Which weights.
#[derive(clap::Args, Clone)]
pub struct WeightArguments {
    /// A checkpoint: .pt, .safetensors or .bit2; of a checkpoint in several files its index (.index.json), or the
    /// folder in which it lies.
    #[arg(long, short, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// A JSON object from regular expressions over the checkpoint's tensor names to the graph's names; $1 is a group.
    #[arg(long, value_name = "MAP.json", requires = "weights")]
    pub rename: Option<PathBuf>,
    /// Load weights that are not finite, and scales that are negative; those of a package too.
    #[arg(long)]
    pub allow_nan: bool,
    /// Seed of the random weights that are used without a checkpoint.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub weight_seed: u64,
    /// Where the weights of a package, and the bits of a .bit2 file, lie while the model runs.
    #[arg(long, default_value = "auto", value_name = "WHERE")]
    pub weights_memory: WeightsMemoryName,
}

/// How caches are stored.
#[derive(clap::Args, Clone, Copy, Default)]
pub struct CacheArguments {
    /// How the entries of caches (keys, values) lie in memory: as computed, or rounded to bf16, which halves them. By
    /// default f32, or what a package was compiled with. `eval` measures what rounding costs.
    #[arg(long, value_name = "FORMAT")]
    pub cache: Option<CacheName>,
}

/// How caches are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum CacheName {
    F32,
    Bf16,
}

impl CacheArguments {
    /// For the session.
    pub fn format(self) -> Option<CacheFormat> {
        self.cache.map(|name| match name {
            CacheName::F32 => CacheFormat::F32,
            CacheName::Bf16 => CacheFormat::Bf16,
        })
    }
}

/// Where weights lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WeightsMemoryName {
    /// In the mapped file, shared between processes.
    Mmap,
    /// Copied once into memory for which huge pages are asked.
    Huge,
    /// Huge for weights that no cache holds, else mmap.
    Auto,
}

impl From<WeightsMemoryName> for WeightsMemory {
    fn from(name: WeightsMemoryName) -> WeightsMemory {
        match name {
            WeightsMemoryName::Mmap => WeightsMemory::Mmap,
            WeightsMemoryName::Huge => WeightsMemory::Huge,
            WeightsMemoryName::Auto => WeightsMemory::Auto,
        }
    }
}

/// How text becomes tokens, for models that take them.
#[derive(clap::Args, Clone)]
pub struct TokenizerArguments {
    /// The tokenizer of a token model; by default the tokenizer.json beside the config or the checkpoint, and without
    /// one texts are JSON arrays of token ids.
    #[arg(long, value_name = "tokenizer.json")]
    pub tokenizer: Option<PathBuf>,
}

impl TokenizerArguments {
    /// The tokenizer, if the model takes tokens and there is one.
    pub fn open(
        &self,
        decoder: &Decoder,
        model: &ModelArguments,
        weights: &WeightArguments,
    ) -> Result<Option<Tokenizer>, Failure> {
        if decoder.is_bytes() {
            return match self.tokenizer {
                Some(_) => Err(Failure::Usage("error: --tokenizer: this model takes bytes".into())),
                None => Ok(None),
            };
        }
        let files = model.config.as_deref().into_iter().chain(weights.weights.as_deref());
        let Some(path) = session::find_tokenizer(self.tokenizer.as_deref(), files) else { return Ok(None) };
        let tokenizer = Tokenizer::open(&path, decoder.vocabulary())?;
        if !tokenizer.saved().is_empty() {
            let saved = tokenizer.saved().join(", ");
            tell!("note: {}: {saved} saved in it: for training, nothing of it acts here", path.display());
        }
        Ok(Some(tokenizer))
    }
}

/// The most steps that an option may ask for.
pub const MOST_STEPS: usize = 1 << 24;

/// Reads a number within bounds.
pub fn between<const LEAST: usize, const MOST: usize>(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if (LEAST..=MOST).contains(&n) => Ok(n),
        Ok(_) => Err(format!("must lie in {LEAST}..={MOST}")),
        Err(error) => Err(error.to_string()),
    }
}

/// How to compile and run.
#[derive(clap::Args, Clone)]
pub struct EngineArguments {
    /// Threads, at most 1024; by default one for each processor that the process may use. Where fewer can be had there
    /// are fewer.
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Do not tie threads to processors.
    #[arg(long)]
    pub no_pin: bool,
    /// Processor features to compile for: x86-64-v1, x86-64-v2, x86-64-v3, x86-64-v4 or native.
    #[arg(long, env = "STERNA_CPU", default_value = "native", value_name = "LEVEL")]
    pub cpu: String,
    /// Most steps evaluated in one call.
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub rows: usize,
    /// Room of caches that the graph does not bound, in steps.
    #[arg(long, default_value_t = 4096, value_name = "N")]
    pub context: usize,
}

impl EngineArguments {
    /// Options of the compiler.
    pub fn compile_options(&self) -> Result<CompileOptions, Failure> {
        if self.rows == 0 || self.rows > 4096 {
            return Err(Failure::Usage("--rows must lie in 1..=4096".into()));
        }
        if self.context == 0 || self.context > 1 << 24 {
            return Err(Failure::Usage("--context must lie in 1..=16777216".into()));
        }
        let cpu = self.cpu.parse().map_err(|e| Failure::Usage(format!("--cpu: {e}")))?;
        Ok(CompileOptions { cpu, max_rows: self.rows, max_context: self.context, unskipped: false })
    }

    /// The threads asked for.
    pub fn threads(&self) -> Result<Option<usize>, Failure> {
        match self.threads {
            Some(n) if n == 0 || n > MAX_THREADS => {
                Err(Failure::Usage(format!("--threads must lie in 1..={MAX_THREADS}")))
            }
            threads => Ok(threads),
        }
    }

    /// The thread pool.
    pub fn pool(&self) -> Result<Arc<Pool>, Failure> {
        // The system's answer heeds affinities and the quotas of control groups of both versions.
        let available = || std::thread::available_parallelism().map_or(1, |n| n.get());
        let threads = self.threads()?.unwrap_or_else(available);
        Ok(Arc::new(Pool::new(threads, !self.no_pin)))
    }
}

/// The files that a command reads for its model, as far as its arguments name them or they lie beside those named.
pub fn inputs(model: &ModelArguments, weights: &WeightArguments) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = model.config.iter().map(PathBuf::from).collect();
    files.extend(weights.rename.clone());
    files.extend(graph_files(model.graphs.as_deref()));
    files.extend(weights.weights.as_deref().map(session::files_of_checkpoint).unwrap_or_default());
    files
}

/// The graph files of a folder.
pub fn graph_files(folder: Option<&Path>) -> Vec<PathBuf> {
    let entries = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Refuses to write over one of the inputs, or over what is no regular file, before the work begins.
pub fn check_output(path: &Path, inputs: &[PathBuf]) -> Result<(), SessionError> {
    let checked = crate::output_file::may_write(path, inputs);
    checked.map_err(|source| SessionError::Write { path: path.to_owned(), source })
}

/// Loads the model of these arguments; warnings go to stderr.
pub fn session(
    model: &ModelArguments,
    weights: Option<&WeightArguments>,
    cache: CacheArguments,
) -> Result<Session, SessionError> {
    observing(model, weights, cache, Vec::new())
}

/// As [`session`], with the probes of these globs as outputs.
pub fn observing(
    model: &ModelArguments,
    weights: Option<&WeightArguments>,
    cache: CacheArguments,
    observe: Vec<String>,
) -> Result<Session, SessionError> {
    let checkpoint = weights.and_then(|w| w.weights.as_deref());
    let source = match (&model.config, checkpoint) {
        (Some(name), _) => ModelSource::named(name),
        (None, Some(path)) => session::config_of_checkpoint(path)?,
        (None, None) => ModelSource::Bundled,
    };
    if let (Some(graphs), ModelSource::Bundled | ModelSource::Package(_)) = (&model.graphs, &source) {
        tell!("note: --graphs {}: a package has its graph inside, so the folder is not read", graphs.display());
    }
    let chosen = match (checkpoint, weights) {
        (Some(path), _) => WeightsSource::File(path.to_owned()),
        (None, Some(arguments)) => WeightsSource::Random(arguments.weight_seed),
        (None, None) => WeightsSource::None,
    };
    let options = LoadOptions {
        model: model.model.clone(),
        graphs: model.graphs.clone(),
        weights: chosen,
        allow_nan: weights.is_some_and(|w| w.allow_nan),
        rename: weights.and_then(|w| w.rename.clone()),
        memory: weights.map_or(WeightsMemory::Auto, |w| w.weights_memory.into()),
        observe,
        cache: cache.format(),
    };
    load(&source, &options)
}

/// Says that the weights are random, where somebody may take what they give for that of a model.
pub fn note_random(session: &Session) {
    if session.is_random() {
        tell!("note: without --weights (-w) the weights are random, and what they give means nothing");
    }
}

/// Loads a model; warnings go to stderr.
pub fn load(source: &ModelSource, options: &LoadOptions) -> Result<Session, SessionError> {
    let bar = output::spinner("loading");
    let session = Session::load(source, options)?;
    bar.finish_and_clear();
    let warnings = session.rendered_warnings();
    if !warnings.is_empty() {
        tell!("{}", warnings.trim_end());
    }
    Ok(session)
}
