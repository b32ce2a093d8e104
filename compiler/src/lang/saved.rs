//! Values that a checkpoint was saved with, for the config keys that a graph leaves open.

use super::ast::{CheckpointRule, File, Item};
use crate::config::{Json, JsonKind, Object};

/// What a checkpoint says about its own config.
#[derive(Clone, Debug)]
pub struct Saved {
    /// An object of values by key.
    pub values: Json,
    /// Whether the config is the checkpoint's own, not one given for this run: then these values come before it.
    pub before_config: bool,
}

impl Saved {
    /// The config with the values saved for the keys that the graph lets a config choose.
    pub(super) fn complete(&self, graph: &File, mut config: Json) -> Json {
        let (JsonKind::Object(object), Some(values)) = (&mut config.kind, self.values.as_object()) else {
            return config;
        };
        for key in open_keys(graph) {
            if let Some(saved) = values.get(key) {
                self.put(object, saved);
            }
        }
        config
    }

    fn put(&self, object: &mut Object, saved: &crate::config::Property) {
        match object.properties.iter_mut().find(|p| p.key == saved.key) {
            Some(own) if self.before_config => *own = saved.clone(),
            Some(_) => {}
            None => object.properties.push(saved.clone()),
        }
    }
}

/// The keys of the graph's `choose` rules.
fn open_keys(graph: &File) -> impl Iterator<Item = &str> {
    let sections = graph.items.iter().filter_map(|item| match item {
        Item::Checkpoint(section) => Some(section),
        _ => None,
    });
    sections.flat_map(|section| &section.rules).filter_map(|rule| match rule {
        CheckpointRule::Choose { key, .. } => Some(&*key.value),
        _ => None,
    })
}
