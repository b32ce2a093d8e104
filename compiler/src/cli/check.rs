//! `sterna check`: every config key and every tensor accounted for, and what the model costs.

use serde_json::{Map, Value, json};

use super::options::{self, CacheArguments, EngineArguments, ModelArguments, WeightArguments};
use super::{Failure, Outcome, output};
use crate::ir::{Treatment, WeightSource};
use crate::session::{self, Experts, Session, SessionError};

/// Arguments of `sterna check`.
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    #[command(flatten)]
    weights: WeightArguments,
    #[command(flatten)]
    engine: EngineArguments,
    /// Instead: parameters and file sizes of all presets of a model. A compact file has ceil(columns / 4) bytes for a
    /// row of ternary weights, 2 bytes for a scale and for every other weight, and what `torch.save` puts around them:
    /// headers of the archive, and names, shapes and the config as a pickle. The last column is the file with the
    /// archive's directory.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["config", "weights"])]
    all: Option<String>,
    /// Print JSON to stdout.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Outcome {
    if let Some(model) = &arguments.all {
        return sizes(model, &arguments);
    }
    let weights = arguments.weights.weights.is_some().then_some(&arguments.weights);
    let session = match options::session(&arguments.model, weights, CacheArguments::default()) {
        Err(SessionError::Tensors { text, rename }) if arguments.json => {
            let rename: Map<String, Value> = rename.into_iter().map(|(from, to)| (from, json!(to))).collect();
            say!("{}", json!({ "rename": rename }));
            return Err(Failure::Input(text));
        }
        loaded => loaded?,
    };
    let failed = session.failed_weight_checks()?;
    if !failed.is_empty() {
        return Err(Failure::Input(failed.join("\n")));
    }
    // The process ends with the report: taking a large graph to pieces would only make it end later.
    let session = std::mem::ManuallyDrop::new(session);
    let options = arguments.engine.compile_options()?;
    let cost = session.cost(&options)?;
    let module = session.module();
    if arguments.json {
        let mut report = json!({
            "model": module.name,
            "parameters": module.parameters(),
            "fp32_bytes": 4 * module.parameters(),
            "weight_bytes": cost.weight_bytes,
            "computed_weight_bytes": cost.computed_bytes,
            "state_bytes_per_stream": cost.state_bytes,
            "operations_per_step": cost.operations,
            "experts": cost.experts.iter().map(experts).collect::<Vec<_>>(),
            "config_keys": keys(&session),
            "tensors": tensors(&session),
        });
        if let Some(why) = &cost.not_compiled {
            report["not_compiled"] = json!(why);
        }
        say!("{report}");
        return Ok(());
    }
    say!("{} - {}", module.name, module.title);
    say!("parameters        {:>16}", output::grouped(module.parameters()));
    say!("  as float32      {:>16}", format!("{:.3} MB", 4.0 * module.parameters() as f64 / 1e6));
    say!("  packed          {:>16}", output::bytes(cost.weight_bytes));
    if cost.computed_bytes > 0 {
        say!("  of it computed  {:>16}", output::bytes(cost.computed_bytes));
    }
    say!("state of a stream {:>16}", output::bytes(cost.state_bytes));
    say!("operations a step {:>16}", output::grouped(cost.operations));
    for layer in alike(&cost.experts) {
        say!("{layer}");
    }
    say!("config keys");
    let widest = module.config.iter().map(|key| key.key.chars().count()).max().unwrap_or(0).max(22);
    for key in &module.config {
        say!("  {:<widest$} {:<14} {}", key.key, shorten(&key.value, 14), treatment(&key.treatment));
    }
    for (name, tensor, why) in module.unread() {
        say!("not read: {name} {:?}: {why}", tensor.shape);
    }
    if let Some(found) = session.tensor_report() {
        let under = found.key.as_ref().map_or_else(String::new, |key| format!(", under `{key}`"));
        say!("tensors: {} read, {} not needed{under}", found.read.len(), found.ignored.len());
        for (name, why) in &found.ignored {
            say!("  {name}: {why}");
        }
        if !found.beside.is_empty() {
            say!("beside the tensors, not read: {}", found.beside.join(", "));
        }
    }
    if let Some(why) = cost.not_compiled {
        say!("not compiled: {why}");
    }
    Ok(())
}

fn experts(layer: &Experts) -> Value {
    json!({ "path": layer.path, "experts": layer.all, "chosen": layer.chosen })
}

/// A line for each number of experts, however many layers have it.
fn alike(experts: &[Experts]) -> Vec<String> {
    let mut kinds: Vec<((usize, usize), usize)> = Vec::new();
    for layer in experts {
        let kind = (layer.chosen, layer.all);
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, layers)) => *layers += 1,
            None => kinds.push((kind, 1)),
        }
    }
    let line = |((chosen, all), layers): &((usize, usize), usize)| {
        let of = if *layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") };
        format!("experts           {:>16}", format!("{chosen} of {all} a step, in {of}"))
    };
    kinds.iter().map(line).collect()
}

/// The table of a model's presets.
fn sizes(model: &str, arguments: &Arguments) -> Outcome {
    let rows = session::preset_sizes(model, arguments.model.graphs.as_deref())?;
    if arguments.json {
        let rows: Vec<Value> = rows
            .iter()
            .map(|row| {
                json!({
                    "presets": row.presets,
                    "parameters": row.parameters,
                    "fp32_bytes": row.fp32_bytes,
                    "compact_bytes": row.compact_bytes,
                    "compact_file_bytes": row.compact_file_bytes,
                })
            })
            .collect();
        say!("{}", json!({ "model": model, "sizes": rows }));
        return Ok(());
    }
    say!("{:>16}  {:>12}  {:>12}  {:>12}  presets", "parameters", "fp32", "compact", "its file");
    for row in rows {
        let mib = |bytes: usize| format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20));
        say!(
            "{:>16}  {:>12}  {:>12}  {:>12}  {}",
            output::grouped(row.parameters),
            format!("{:.3} MB", row.fp32_bytes as f64 / 1e6),
            mib(row.compact_bytes),
            mib(row.compact_file_bytes),
            row.presets.join(", ")
        );
    }
    Ok(())
}

fn shorten(text: &str, most: usize) -> String {
    if text.chars().count() <= most { text.into() } else { text.chars().take(most - 1).chain(['…']).collect() }
}

fn treatment(treatment: &Treatment) -> String {
    match treatment {
        Treatment::Used => "used".into(),
        Treatment::Default => "not given, the default is used".into(),
        Treatment::Ignored(why) => format!("ignored: {why}"),
        Treatment::Runtime(who) => format!("kept for the runtime: {who}"),
        Treatment::Warned(why) => format!("warned: {why}"),
    }
}

fn keys(session: &Session) -> Value {
    let mut keys = Map::new();
    for key in &session.module().config {
        let (word, why) = match &key.treatment {
            Treatment::Used => ("used", None),
            Treatment::Default => ("default", None),
            Treatment::Ignored(why) => ("ignored", Some(why)),
            Treatment::Runtime(why) => ("runtime", Some(why)),
            Treatment::Warned(why) => ("warned", Some(why)),
        };
        let value: Value = serde_json::from_str(&key.value).unwrap_or_else(|_| json!(key.value));
        let mut entry = json!({ "value": value, "treatment": word });
        if let Some(why) = why {
            entry["why"] = json!(why);
        }
        keys.insert(key.key.clone(), entry);
    }
    Value::Object(keys)
}

fn tensors(session: &Session) -> Value {
    let declared: Vec<Value> = session
        .module()
        .weights
        .iter()
        .filter(|w| matches!(w.source, WeightSource::Checkpoint))
        .map(|w| json!({ "name": w.path, "shape": w.shape, "encoding": w.encoding.elem().name() }))
        .collect();
    let unread: Vec<Value> = session
        .module()
        .unread()
        .map(|(name, t, why)| json!({ "name": name, "shape": t.shape, "encoding": t.encoding.elem().name(), "why": why }))
        .collect();
    let mut report = json!({ "declared": declared, "unread": unread });
    if let Some(found) = session.tensor_report() {
        report["read"] = json!(found.read);
        let ignored: Map<String, Value> = found.ignored.iter().map(|(n, why)| (n.clone(), json!(why))).collect();
        report["ignored"] = Value::Object(ignored);
        report["key"] = json!(found.key);
        report["beside"] = json!(found.beside);
    }
    report
}
