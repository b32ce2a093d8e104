//! Names of compiled functions for Linux `perf`, which reads those of generated code from a file `perf-PID.map` in the
//! temporary folder: `STERNA_PERF_MAP=1 perf record sterna bench ...`, then `perf report`.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use cranelift_jit::JITModule;
use cranelift_module::Module;

/// Set, to anything, where a map is wanted.
const VARIABLE: &str = "STERNA_PERF_MAP";

/// Appends the functions of a finished module to the map, if there is to be one.
pub fn write(module: &JITModule) {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let mut functions: Vec<(usize, String)> = module
        .declarations()
        .get_functions()
        .filter(|(_, declaration)| declaration.linkage.is_definable())
        .map(|(id, declaration)| (module.get_finalized_function(id).addr(), declaration.linkage_name(id).into_owned()))
        .collect();
    functions.sort_unstable();
    let path = std::env::temp_dir().join(format!("perf-{}.map", std::process::id()));
    let lines: String = functions
        .iter()
        .zip(functions.iter().skip(1).map(|(next, _)| *next).chain([usize::MAX]))
        .map(|((start, name), next)| format!("{start:x} {:x} {name}\n", (next - start).min(LONGEST)))
        .collect();
    let mut map = MAP.lock().unwrap_or_else(PoisonError::into_inner);
    if map.is_none() {
        // What is there under the name is of a process of old, or somebody's link.
        let _ = std::fs::remove_file(&path);
        *map = File::create_new(&path).ok();
    }
    // perf shows addresses where it finds no map: whoever asked will see.
    let _ = map.as_mut().map(|file| file.write_all(lines.as_bytes()));
}

/// The map of this process.
static MAP: Mutex<Option<File>> = Mutex::new(None);

/// A bound on the length of a function, for the last one.
const LONGEST: usize = 1 << 16;
