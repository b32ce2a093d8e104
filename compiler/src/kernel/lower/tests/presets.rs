//! The bundled models: each preset is lowered to a program that is proven to stay inside its buffers.

use std::time::{Duration, Instant};

use crate::diagnostics::SourceFiles;
use crate::kernel::lower::{Options, lower};
use crate::kernel::prove::prove;
use crate::lang::Library;
use crate::passes;

#[test]
fn presets_are_lowered() {
    let library = Library::embedded();
    let (mut lowering, mut proving) = (Duration::ZERO, Duration::ZERO);
    for name in library.presets(&mut SourceFiles::new()).expect("they parse") {
        let mut files = SourceFiles::new();
        let compiled = library.compile_preset(&mut files, &name, &Default::default());
        let mut module = compiled.unwrap_or_else(|e| panic!("{name}: {e:?}")).module;
        passes::run_pipeline(&mut module, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        let start = Instant::now();
        let program = lower(&module, &Options::default());
        let program = program.unwrap_or_else(|e| panic!("{name}: {e} at {:?}", module.origins.get(e.origin.index())));
        lowering += start.elapsed();
        let start = Instant::now();
        let proven = prove(&program.program).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(proven.launches > 0 && proven.accesses > proven.launches);
        proving += start.elapsed();
    }
    eprintln!("lowered in {lowering:?}, proven in {proving:?}");
}
