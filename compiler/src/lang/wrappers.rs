//! What torch's wrappers put into the names of a model's tensors, for every model alike: an optimised, a distributed or
//! a checkpointed module is a part `_orig_mod`, `module`, ... of its wrapper, wherever in the model it is wrapped.

use std::borrow::Cow;

/// The parts under which wrappers hold what they wrap: data parallelism and averaging, `torch.compile`, fully sharded
/// data parallelism, activation checkpoints.
const WRAPPERS: [&str; 4] = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];

/// The counter that torch's averaged model keeps beside the averages.
const AVERAGED: &str = "n_averaged";

/// A name without the parts of wrappers; a name of nothing else stays.
pub fn unwrapped(name: &str) -> Cow<'_, str> {
    let wrapper = |part: &&str| WRAPPERS.contains(part);
    if !name.split('.').any(|part| wrapper(&part)) {
        return name.into();
    }
    let parts: Vec<&str> = name.split('.').filter(|part| !wrapper(part)).collect();
    if parts.is_empty() { name.into() } else { parts.join(".").into() }
}

/// Why a tensor that nothing reads is not needed, if a wrapper has added it.
pub fn added(name: &str) -> Option<&'static str> {
    (name == AVERAGED).then_some("it counts the models that were averaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_off_wherever_they_stand() {
        for (name, bare) in [
            ("module._orig_mod.module.x", "x"),
            ("layers.0._checkpoint_wrapped_module.mlp.module.w", "layers.0.mlp.w"),
            ("_fsdp_wrapped_module.x.weight", "x.weight"),
            ("modules.x.weight", "modules.x.weight"),
            ("module", "module"),
        ] {
            assert_eq!(unwrapped(name), bare);
        }
    }
}
