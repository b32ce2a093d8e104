//! Lists the graph files of the model library, so that they are embedded without any source file
//! naming one.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let graphs = Path::new(&root).join("../graphs");
    println!("cargo::rerun-if-changed={}", graphs.display());
    let mut names: Vec<String> = fs::read_dir(&graphs)
        .expect("the graphs folder is part of the project")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".graph"))
        .collect();
    names.sort();
    let mut list = String::from("[\n");
    for name in names {
        let path = graphs.join(&name);
        println!("cargo::rerun-if-changed={}", path.display());
        let path = path.display().to_string();
        writeln!(list, "    ({name:?}, include_str!({path:?})),").expect("writing to a string");
    }
    list.push_str("]\n");
    let out = env::var("OUT_DIR").expect("cargo sets it");
    fs::write(Path::new(&out).join("graphs.rs"), list).expect("the output folder is writable");
}
