//! A session's weights in a checkpoint format of their own.

use std::path::Path;

use serde_json::{Map, Value};

use super::{Held, Result, Session, SessionError};
use crate::ir::{Treatment, WeightDecl, WeightId, WeightSource};
use crate::output_file::write_whole;
use crate::package::{ImageError, Values};
use crate::weights::{Bit2WriteError, WriteOptions, write_bit2};

impl Session {
    /// Writes the model as a `.bit2` file, tensors in the order in which the graph declares them, and gives its size.
    ///
    /// # Errors
    /// A weight has no form in the format or no finite value, or the file cannot be written.
    pub fn export_bit2(&self, path: &Path, options: WriteOptions, progress: impl FnMut(usize)) -> Result<usize> {
        let module = &self.prepared;
        let declared = module.weights.iter().enumerate().filter(|(_, w)| matches!(w.source, WeightSource::Checkpoint));
        let (ids, weights): (Vec<WeightId>, Vec<&WeightDecl>) =
            declared.map(|(index, weight)| (WeightId(index as u32), weight)).unzip();
        let config = self.full_config();
        let mut meta = Map::new();
        match &self.held {
            Held::Checkpoint { checkpoint, .. } => {
                // What is known of the training run; what the config says too, it says for the file as well.
                let plain = |value: &Value| !value.is_object() && !value.is_array();
                let own = checkpoint.metadata().iter();
                let kept = own.filter(|(key, value)| plain(value) && config.get(key.as_str()).is_none());
                meta.extend(kept.map(|(key, value)| (key.clone(), value.clone())));
            }
            Held::Random(seed) => drop(meta.insert("source".into(), format!("random weights, seed {seed}").into())),
            Held::Package { .. } => {}
        }
        let written = self.with_values(|values: &Values| {
            let value = |index: usize| values.value(module, ids[index]);
            let head = (&config, &meta);
            let write = write_whole(path, |out| write_bit2(out, &weights, head, options, value, progress));
            Ok::<_, SessionError>(write)
        })?;
        written.map_err(|source: Bit2WriteError<ImageError>| SessionError::Export { path: path.to_owned(), source })
    }

    /// The config with the defaults that it leaves out, so that a file means the same when a graph's defaults change.
    fn full_config(&self) -> Value {
        let mut config = self.config.clone();
        for used in self.elaborated.config.iter().filter(|used| used.treatment == Treatment::Default) {
            config[&used.key] = serde_json::from_str(&used.value).unwrap_or_else(|_| used.value.as_str().into());
        }
        config
    }
}
