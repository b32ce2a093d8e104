//! The floating-point control word: set to the default at every entry and in every pool thread, since flushing
//! denormals or another rounding would change bits (spec/numerics.md).

/// Sets the default control word and restores the caller's when dropped.
#[derive(Debug)]
pub struct DefaultFloats {
    saved: u64,
}

impl DefaultFloats {
    /// Round to nearest even, denormals kept, exceptions masked.
    pub fn set() -> DefaultFloats {
        let saved = read();
        write(DEFAULT);
        DefaultFloats { saved }
    }
}

impl Drop for DefaultFloats {
    fn drop(&mut self) {
        write(self.saved);
    }
}

#[cfg(target_arch = "x86_64")]
const DEFAULT: u64 = 0x1f80;

#[cfg(target_arch = "x86_64")]
fn read() -> u64 {
    let mut word = 0u32;
    // SAFETY: stmxcsr stores four bytes at the address of a live u32.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut word, options(nostack, preserves_flags)) };
    u64::from(word)
}

#[cfg(target_arch = "x86_64")]
fn write(word: u64) {
    let word = word as u32;
    // SAFETY: ldmxcsr loads a word that stmxcsr gave or the default one, neither of which has reserved bits set.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const word, options(nostack, preserves_flags, readonly)) };
}

#[cfg(target_arch = "aarch64")]
const DEFAULT: u64 = 0;

#[cfg(target_arch = "aarch64")]
fn read() -> u64 {
    let word: u64;
    // SAFETY: reading FPCR has no effect on memory.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) word, options(nomem, nostack, preserves_flags)) };
    word
}

#[cfg(target_arch = "aarch64")]
fn write(word: u64) {
    // SAFETY: writing FPCR changes only how floats round, which callers of this module expect.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) word, options(nomem, nostack, preserves_flags)) };
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const DEFAULT: u64 = 0;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> u64 {
    0
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_: u64) {}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn flushing_is_switched_off_and_back_on() {
        const FLUSH: u64 = 0x8040;
        write(DEFAULT | FLUSH);
        {
            let _floats = DefaultFloats::set();
            assert_eq!(read() & FLUSH, 0);
        }
        assert_eq!(read() & FLUSH, FLUSH);
        write(DEFAULT);
    }
}
