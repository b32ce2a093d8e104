//! The table of processors that code can be made for, and what of each the emitters use.

use std::str::FromStr;

use thiserror::Error;

/// A level of processor features. All levels give the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Cpu {
    /// x86-64 baseline: SSE2.
    X86V1,
    /// SSE4.2 and SSSE3.
    X86V2,
    /// AVX2.
    X86V3,
    /// AVX-512 with VNNI.
    X86V4,
    /// What this machine has.
    #[default]
    Native,
}

/// A level name that is not in the table.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown processor level `{0}`; one of {names}", names = Cpu::NAMES.map(|(name, _)| name).join(", "))]
pub struct UnknownCpu(pub String);

impl Cpu {
    /// Every level with its name on the command line.
    pub const NAMES: [(&'static str, Cpu); 5] = [
        ("x86-64-v1", Cpu::X86V1),
        ("x86-64-v2", Cpu::X86V2),
        ("x86-64-v3", Cpu::X86V3),
        ("x86-64-v4", Cpu::X86V4),
        ("native", Cpu::Native),
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        let found = Cpu::NAMES.iter().find(|(_, cpu)| *cpu == self);
        found.map_or("native", |(name, _)| name)
    }

    /// The Cranelift flags of a fixed level; `None` for the native one, which is detected.
    pub fn flags(self) -> Option<&'static [&'static str]> {
        // has_fma is left out everywhere: no operation may fuse.
        const V2: [&str; 5] = ["has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];
        const V3: [&str; 10] = [
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_bmi1",
            "has_bmi2",
            "has_lzcnt",
        ];
        const V4: [&str; 14] = [
            "has_sse3",
            "has_ssse3",
            "has_sse41",
            "has_sse42",
            "has_popcnt",
            "has_avx",
            "has_avx2",
            "has_bmi1",
            "has_bmi2",
            "has_lzcnt",
            "has_avx512f",
            "has_avx512dq",
            "has_avx512vl",
            "has_avx512vnni",
        ];
        match self {
            Cpu::X86V1 => Some(&[]),
            Cpu::X86V2 => Some(&V2),
            Cpu::X86V3 => Some(&V3),
            Cpu::X86V4 => Some(&V4),
            Cpu::Native => None,
        }
    }

    /// Whether code for this level runs on this machine.
    #[cfg(target_arch = "x86_64")]
    pub fn runs_here(self) -> bool {
        let v2 = || is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("popcnt");
        let v3 = || {
            v2() && is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
        };
        let v4 = || {
            v3() && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
        };
        match self {
            Cpu::X86V1 | Cpu::Native => true,
            Cpu::X86V2 => v2(),
            Cpu::X86V3 => v3(),
            Cpu::X86V4 => v4(),
        }
    }

    /// Whether code for this level runs on this machine.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn runs_here(self) -> bool {
        self == Cpu::Native
    }
}

impl Cpu {
    /// The levels that run on this machine, the best last.
    pub fn here() -> impl Iterator<Item = Cpu> {
        Cpu::NAMES.into_iter().map(|(_, cpu)| cpu).filter(|cpu| cpu.runs_here())
    }

    /// Whether the level has what [`crate::target::wide`] needs: AVX512F, AVX512BW, AVX512VL and AVX512-VNNI.
    #[cfg(target_arch = "x86_64")]
    pub fn has_wide(self) -> bool {
        match self {
            Cpu::X86V4 => true,
            Cpu::Native => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            _ => false,
        }
    }

    /// Whether the level has what [`crate::target::wide`] needs.
    #[cfg(not(target_arch = "x86_64"))]
    pub fn has_wide(self) -> bool {
        self == Cpu::X86V4
    }
}

impl FromStr for Cpu {
    type Err = UnknownCpu;

    fn from_str(text: &str) -> Result<Cpu, UnknownCpu> {
        let found = Cpu::NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, cpu)| *cpu).ok_or_else(|| UnknownCpu(text.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for (name, cpu) in Cpu::NAMES {
            assert_eq!(name.parse(), Ok(cpu));
            assert_eq!(cpu.name(), name);
        }
        assert!("x86-64-v9".parse::<Cpu>().is_err());
    }
}
