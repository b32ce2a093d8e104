//! Reductions whose order is part of their meaning.
//!
//! Over the lane axis there are 16 partials, element i belonging to lane i mod 16, folded i+8, i+4, i+2, i+1. Over
//! any other axis there is one partial per result, ascending. Partial sums start at +0, so they are never -0 and an
//! absent element is the same as an element +0.

/// Lanes of a float reduction; a definition, not a property of a machine.
pub const LANES: usize = 16;

/// Folds 16 partials by halves.
pub fn fold(mut p: [f32; LANES], op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            p[i] = op(p[i], p[i + width]);
        }
        width /= 2;
    }
    p[0]
}

/// A lane-axis sum in progress.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneSum {
    partials: [f32; LANES],
}

impl LaneSum {
    /// Adds elements; the first belongs to lane `start` mod 16.
    pub fn add(&mut self, start: usize, x: &[f32]) {
        let (head, body) = split_aligned(start, x);
        for (i, &v) in head.iter().enumerate() {
            self.partials[(start + i) % LANES] += v;
        }
        let (blocks, tail) = body.as_chunks::<LANES>();
        for block in blocks {
            for (p, &v) in self.partials.iter_mut().zip(block) {
                *p += v;
            }
        }
        for (p, &v) in self.partials.iter_mut().zip(tail) {
            *p += v;
        }
    }

    /// Adds products, each rounded before it is added; the first belongs to lane `start` mod 16.
    pub fn add_products(&mut self, start: usize, a: &[f32], b: &[f32]) {
        let (head, a_body) = split_aligned(start, a);
        let (b_head, b_body) = b.split_at(head.len());
        for (i, (&x, &y)) in head.iter().zip(b_head).enumerate() {
            self.partials[(start + i) % LANES] += x * y;
        }
        let (a_blocks, a_tail) = a_body.as_chunks::<LANES>();
        let (b_blocks, b_tail) = b_body.as_chunks::<LANES>();
        for (x, y) in a_blocks.iter().zip(b_blocks) {
            for ((p, &x), &y) in self.partials.iter_mut().zip(x).zip(y) {
                *p += x * y;
            }
        }
        for ((p, &x), &y) in self.partials.iter_mut().zip(a_tail).zip(b_tail) {
            *p += x * y;
        }
    }

    /// Adds products with integer codes, converted to f32 first; the first belongs to lane 0.
    pub fn add_codes(&mut self, codes: &[i8], x: &[f32]) {
        let (c_blocks, c_tail) = codes.as_chunks::<LANES>();
        let (x_blocks, x_tail) = x.as_chunks::<LANES>();
        for (c, x) in c_blocks.iter().zip(x_blocks) {
            for ((p, &c), &x) in self.partials.iter_mut().zip(c).zip(x) {
                *p += f32::from(c) * x;
            }
        }
        for ((p, &c), &x) in self.partials.iter_mut().zip(c_tail).zip(x_tail) {
            *p += f32::from(c) * x;
        }
    }

    /// The sum of the partials.
    pub fn total(self) -> f32 {
        fold(self.partials, |a, b| a + b)
    }
}

/// The elements up to the next multiple of 16, and the rest.
fn split_aligned(start: usize, x: &[f32]) -> (&[f32], &[f32]) {
    let head = (LANES - start % LANES) % LANES;
    x.split_at(head.min(x.len()))
}

/// The lane-axis sum.
pub fn lane_sum(x: &[f32]) -> f32 {
    lane_sum_from(0, x)
}

/// The lane-axis sum of elements whose first has the absolute place `start`.
pub fn lane_sum_from(start: usize, x: &[f32]) -> f32 {
    let mut sum = LaneSum::default();
    sum.add(start, x);
    sum.total()
}

/// The lane-axis sum of products.
pub fn lane_dot(a: &[f32], b: &[f32]) -> f32 {
    lane_dot_from(0, a, b)
}

/// The lane-axis sum of products whose first has the absolute place `start`.
pub fn lane_dot_from(start: usize, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = LaneSum::default();
    sum.add_products(start, a, b);
    sum.total()
}

/// The lane-axis sum of codes times floats.
pub fn lane_dot_codes(codes: &[i8], x: &[f32]) -> f32 {
    let mut sum = LaneSum::default();
    sum.add_codes(codes, x);
    sum.total()
}

/// The product of signs, of which `plus` says where they are +1, with floats: twice the lane-axis sum of the elements
/// with +1, less `all`, that of all elements.
pub fn lane_signs(plus: impl Iterator<Item = bool>, x: &[f32], all: f32) -> f32 {
    let mut sum = LaneSum::default();
    for (place, (&x, plus)) in x.iter().zip(plus).enumerate() {
        if plus {
            sum.partials[place % LANES] += x;
        }
    }
    let sum = sum.total();
    (sum + sum) - all
}

/// The ascending sum.
pub fn ascending_sum(x: impl IntoIterator<Item = f32>) -> f32 {
    x.into_iter().fold(0.0, |sum, v| sum + v)
}

/// The lane-axis maximum from -infinity by `a < b ? b : a`; a NaN element is passed over.
pub fn lane_max(start: usize, x: &[f32]) -> f32 {
    let op = |a: f32, b: f32| if a < b { b } else { a };
    lane_fold(start, x, f32::NEG_INFINITY, op)
}

/// The lane-axis minimum from +infinity by `b < a ? b : a`; a NaN element is passed over.
pub fn lane_min(start: usize, x: &[f32]) -> f32 {
    let op = |a: f32, b: f32| if b < a { b } else { a };
    lane_fold(start, x, f32::INFINITY, op)
}

fn lane_fold(start: usize, x: &[f32], first: f32, op: impl Fn(f32, f32) -> f32) -> f32 {
    let mut partials = [first; LANES];
    for (i, &v) in x.iter().enumerate() {
        let lane = (start + i) % LANES;
        partials[lane] = op(partials[lane], v);
    }
    fold(partials, op)
}
