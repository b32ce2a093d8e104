//! That a difference in any output, probe or state of any step is found.

use sterna_runtime::Engine;

use super::*;
use crate::session::{LoadOptions, ModelSource, WeightsSource};

/// A session of a graph, all probes observed.
fn session(graph: &str) -> Session {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("m.graph"), graph).unwrap();
    let config = folder.path().join("c.json");
    std::fs::write(&config, "{}").unwrap();
    let options = LoadOptions {
        model: Some("m".into()),
        graphs: Some(folder.path().into()),
        weights: WeightsSource::Random(1),
        observe: if graph.contains("probe") { vec!["*".into()] } else { Vec::new() },
        ..LoadOptions::default()
    };
    Session::load(&ModelSource::File(config), &options).unwrap_or_else(|e| panic!("{e}"))
}

fn how(session: &Session, elements: usize) -> (Comparing, Elements) {
    let compile = CompileOptions { max_rows: 4, ..CompileOptions::default() };
    let table = session.interpreter(&compile, Mode::Step).unwrap().table().clone();
    let mut how = Comparing::new(compile);
    how.levels[0].kernels = true;
    (how, Elements { elements: draw(&table, 7, elements).unwrap(), batches: vec![3, 4] })
}

const GRAPH: &str = "
model m \"outputs, probes and states\"
weight embed: f32[16, 5]
block cell(x: f32[5]) -> f32[5] {
  state level: f32[5] = 0
  state kept: i32[ring(3), 2]
  kept = push(kept, i32([x[0], x[1]] * 10))
  level = 0.5 * level + SCALE * x
  probe codes = [i8(x * 40), i8(x * 30)]
  probe seen = OFFSET + x
  return x + f32(kept[position % 2][1])
}
part c: cell
entry step(token: u32 in 3..9) {
  y = c(embed[token])
  output small = y[0..3] > 0
  output logits = embed(y)
}
";

fn graph(scale: &str, offset: &str) -> String {
    GRAPH.replace("SCALE", scale).replace("OFFSET", offset)
}

#[test]
fn all_ways_agree_in_everything() {
    let session = session(&graph("1.0", "0.5"));
    let (how, script) = how(&session, 11);
    assert!(script.elements.iter().all(|e| (3..9).contains(e)), "{:?}", script.elements);
    let reference = reference(&session, &how.compile, &script).unwrap();
    assert_eq!(reference.counts(), (2, 2, 2));
    let compared = against(&session, &how, &script, &reference).unwrap();
    assert_eq!(compared.differences, Vec::new());
    // Interpreter, one thread, two threads, kernels; each in steps and in two sizes of batches.
    assert_eq!(compared.ways.len(), 12);
    assert!(
        compared.ways.contains(&format!("{}, kernel interpreter, batches of 3", how.compile.cpu.name())),
        "{:?}",
        compared.ways
    );
}

#[test]
fn a_state_or_probe_alone_makes_a_difference() {
    let right = session(&graph("1.0", "0.5"));
    let (how, script) = how(&right, 11);
    let reference = reference(&right, &how.compile, &script).unwrap();
    for (scale, offset, name) in [("1.25", "0.5", "state c.level"), ("1.0", "0.75", "probe c.seen")] {
        let other = session(&graph(scale, offset));
        let compared = against(&other, &how, &script, &reference).unwrap();
        assert!(!compared.differences.is_empty());
        for difference in &compared.differences {
            assert_eq!(difference.of, name, "{difference}");
        }
        // Every way tells.
        for way in &compared.ways {
            assert!(compared.differences.iter().any(|d| d.way == *way), "{way}");
        }
    }
}

#[test]
fn values_that_are_no_numbers_are_equal_to_themselves_alone() {
    // The square root of a negative number is none.
    let [wrong, right] = ["sqrt(0 * x - 1)", "sqrt(0 * x + 1)"].map(|factor| session(&graph(factor, "0.5")));
    let (how, script) = how(&wrong, 7);
    let reference = reference(&wrong, &how.compile, &script).unwrap();
    assert_eq!(against(&wrong, &how, &script, &reference).unwrap().differences, Vec::new());
    assert!(!against(&right, &how, &script, &reference).unwrap().differences.is_empty());
}

#[test]
fn a_step_that_is_missing_is_a_difference() {
    let session = session(&graph("1.0", "0.5"));
    let (how, script) = how(&session, 6);
    let reference = reference(&session, &how.compile, &script).unwrap();
    let shorter = Elements { elements: script.elements[..5].to_vec(), ..script.clone() };
    let found = super::reference(&session, &how.compile, &shorter).unwrap();
    assert!(!differences("shorter", &reference, &found, 1).is_empty());
    assert_eq!(differences("same", &reference, &reference.clone(), 1), Vec::new());
}

#[test]
fn to_stop_too_early_or_too_late_is_a_difference() {
    let graph = "
model m \"a cache that is full\"
import std
weight embed: f32[16, 4]
block c(x: f32[4]) -> f32[4] {
  state s: f32[cache(ROOM), 4]
  s = push(s, x)
  return softmax(s @ x) @ s
}
part p: c
entry step(token: u32 in 0..16) { output logits = embed(p(embed[token])) }
";
    let sessions = [5, 7].map(|room| session(&graph.replace("ROOM", &room.to_string())));
    let (how, script) = how(&sessions[0], 9);
    let references = [0, 1].map(|i| reference(&sessions[i], &how.compile, &script).unwrap());
    for (i, j) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let compared = against(&sessions[i], &how, &script, &references[j]).unwrap();
        assert!(compared.stopped.is_some());
        assert_eq!(compared.differences.is_empty(), i == j, "{:?}", compared.differences);
    }
}
