//! Arithmetic, comparisons, conversions and reductions on 128-bit parts and scalars.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::types::{F32, F32X4, I32, I32X4, I64};
use cranelift_codegen::ir::{Endianness, InstBuilder, MemFlagsData, Type as ClifType, Value as Clif};
use smallvec::SmallVec;

use super::emit::{Emitter, Parts};
use crate::kernel::ir::{Binary, Compare, Op, Reduce, Type};

impl Emitter<'_, '_, '_> {
    /// A vector of the same bits and another lane type.
    pub(super) fn reinterpret(&mut self, ty: ClifType, value: Clif) -> Clif {
        let flags = MemFlagsData::new().with_endianness(Endianness::Little);
        self.b.ins().bitcast(ty, flags, value)
    }

    /// `mask ? a : b` bit by bit. A comparison, its cast and this very shape become one blend or minimum.
    pub(super) fn blend(&mut self, ty: Type, mask: Clif, a: Clif, b: Clif) -> Clif {
        let mask = if ty == Type::F { self.reinterpret(F32X4, mask) } else { mask };
        self.b.ins().bitselect(mask, a, b)
    }

    fn choose(&mut self, ty: Type, condition: Clif, a: Clif, b: Clif) -> Clif {
        match ty {
            Type::F | Type::I => self.blend(ty, condition, a, b),
            _ => self.b.ins().select(condition, a, b),
        }
    }

    pub(super) fn binary(&mut self, op: Binary, ty: Type, a: Clif, b: Clif) -> Clif {
        let float = matches!(ty, Type::F | Type::S);
        match op {
            Binary::Add if float => self.b.ins().fadd(a, b),
            Binary::Add => self.b.ins().iadd(a, b),
            Binary::Sub if float => self.b.ins().fsub(a, b),
            Binary::Sub => self.b.ins().isub(a, b),
            Binary::Mul if float => self.b.ins().fmul(a, b),
            Binary::Mul => self.b.ins().imul(a, b),
            Binary::Div => self.b.ins().fdiv(a, b),
            Binary::PMin => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, b, a);
                self.choose(ty, less, b, a)
            }
            Binary::PMax => {
                let less = self.b.ins().fcmp(FloatCC::LessThan, a, b);
                self.choose(ty, less, b, a)
            }
            Binary::SMin if ty == Type::I => self.b.ins().smin(a, b),
            Binary::SMax if ty == Type::I => self.b.ins().smax(a, b),
            Binary::SMin => {
                let less = self.b.ins().icmp(IntCC::SignedLessThan, b, a);
                self.choose(ty, less, b, a)
            }
            Binary::SMax => {
                let less = self.b.ins().icmp(IntCC::SignedLessThan, a, b);
                self.choose(ty, less, b, a)
            }
            Binary::And => self.b.ins().band(a, b),
            Binary::Or => self.b.ins().bor(a, b),
            Binary::Xor => self.b.ins().bxor(a, b),
            Binary::UDiv | Binary::URem => {
                // By zero the quotient is the dividend and the remainder 0, both as if dividing by one.
                let clif = if ty == Type::L { I64 } else { I32 };
                let one = self.b.ins().iconst(clif, 1);
                let divisor = self.b.ins().select(b, b, one);
                match op {
                    Binary::UDiv => self.b.ins().udiv(a, divisor),
                    _ => self.b.ins().urem(a, divisor),
                }
            }
        }
    }

    pub(super) fn compare(&mut self, op: Compare, ty: Type, a: Clif, b: Clif) -> Clif {
        let mask = match ty {
            Type::F | Type::S => {
                let code = match op {
                    Compare::Eq => FloatCC::Equal,
                    Compare::Ne => FloatCC::NotEqual,
                    Compare::Lt | Compare::LtU => FloatCC::LessThan,
                    Compare::Le | Compare::LeU => FloatCC::LessThanOrEqual,
                };
                self.b.ins().fcmp(code, a, b)
            }
            Type::I if matches!(op, Compare::LtU | Compare::LeU) => {
                // Baseline x86 has signed vector comparisons alone.
                let flip = self.vconst_words(I32X4, [0x8000_0000; 4]);
                let (a, b) = (self.b.ins().bxor(a, flip), self.b.ins().bxor(b, flip));
                let code = if op == Compare::LtU { Compare::Lt } else { Compare::Le };
                return self.compare(code, ty, a, b);
            }
            _ => {
                let code = match op {
                    Compare::Eq => IntCC::Equal,
                    Compare::Ne => IntCC::NotEqual,
                    Compare::Lt => IntCC::SignedLessThan,
                    Compare::Le => IntCC::SignedLessThanOrEqual,
                    Compare::LtU => IntCC::UnsignedLessThan,
                    Compare::LeU => IntCC::UnsignedLessThanOrEqual,
                };
                self.b.ins().icmp(code, a, b)
            }
        };
        if matches!(ty, Type::F | Type::I) {
            return mask;
        }
        let one = self.b.ins().uextend(I32, mask);
        self.b.ins().ineg(one)
    }

    /// Parts that differ by lane: `make(first lane)` gives the four words of a part.
    fn by_lane(&mut self, make: impl Fn(u32) -> [u32; 4]) -> Parts {
        (0..4).map(|part| self.vconst_words(I32X4, make(4 * part))).collect()
    }

    pub(super) fn iota(&mut self) -> Parts {
        self.by_lane(|lane| [lane, lane + 1, lane + 2, lane + 3])
    }

    pub(super) fn lane_set(&mut self, op: &Op, n: Clif) -> Parts {
        let n = self.b.ins().splat(I32X4, n);
        if matches!(op, Op::LaneMask) {
            let iota = self.iota();
            return iota.iter().map(|&part| self.b.ins().icmp(IntCC::SignedGreaterThan, n, part)).collect();
        }
        let bits = self.by_lane(|lane| [1 << lane, 2 << lane, 4 << lane, 8 << lane]);
        bits.iter()
            .map(|&bit| {
                let hit = self.b.ins().band(n, bit);
                self.b.ins().icmp(IntCC::Equal, hit, bit)
            })
            .collect()
    }

    pub(super) fn convert(&mut self, op: &Op, from: Type, a: &[Clif]) -> Parts {
        let all = |emitter: &mut Self, make: &dyn Fn(&mut Self, Clif) -> Clif| {
            a.iter().map(|&part| make(emitter, part)).collect()
        };
        match (op, from) {
            (Op::Cast, Type::F) => all(self, &|e, part| e.reinterpret(I32X4, part)),
            (Op::Cast, Type::I) => all(self, &|e, part| e.reinterpret(F32X4, part)),
            (Op::Cast, Type::S) => all(self, &|e, a| e.b.ins().bitcast(I32, MemFlagsData::new(), a)),
            (Op::Cast, _) => all(self, &|e, a| e.b.ins().bitcast(F32, MemFlagsData::new(), a)),
            (Op::Convert, Type::I) => all(self, &|e, part| e.b.ins().fcvt_from_sint(F32X4, part)),
            (Op::Convert, _) => all(self, &|e, a| e.b.ins().fcvt_from_sint(F32, a)),
            (Op::Extend(true), _) => all(self, &|e, a| e.b.ins().sextend(I64, a)),
            (Op::Extend(false), _) => all(self, &|e, a| e.b.ins().uextend(I64, a)),
            (Op::Truncate, _) => all(self, &|e, a| e.b.ins().ireduce(I32, a)),
            (_, Type::S) => SmallVec::from_elem(self.b.ins().splat(F32X4, a[0]), 4),
            _ => SmallVec::from_elem(self.b.ins().splat(I32X4, a[0]), 4),
        }
    }

    pub(super) fn reduce(&mut self, op: Reduce, parts: &[Clif]) -> Clif {
        let (vector, scalar, op) = match op {
            Reduce::Add => (Type::F, Type::S, Binary::Add),
            Reduce::PMin => (Type::F, Type::S, Binary::PMin),
            Reduce::PMax => (Type::F, Type::S, Binary::PMax),
            Reduce::IAdd => (Type::I, Type::N, Binary::Add),
            Reduce::IMin => (Type::I, Type::N, Binary::SMin),
            Reduce::IMax => (Type::I, Type::N, Binary::SMax),
        };
        let low = self.binary(op, vector, parts[0], parts[2]);
        let high = self.binary(op, vector, parts[1], parts[3]);
        let four = self.binary(op, vector, low, high);
        let lanes: Vec<Clif> = (0..4u8).map(|lane| self.b.ins().extractlane(four, lane)).collect();
        let even = self.binary(op, scalar, lanes[0], lanes[2]);
        let odd = self.binary(op, scalar, lanes[1], lanes[3]);
        self.binary(op, scalar, even, odd)
    }
}
