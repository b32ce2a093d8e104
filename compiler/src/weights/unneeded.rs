//! What a tensor itself says about whether anybody needs it: what is trained are floats that differ.

use super::{Checkpoint, Element, Stored, TensorEntry};

impl TensorEntry {
    /// What it is, if no weight can be read from it.
    #[must_use]
    pub fn unusable(&self) -> Option<String> {
        match &self.stored {
            Stored::Other { what } => Some(what.clone()),
            _ => None,
        }
    }

    /// Why it is no trained weight, so that a model may do without it.
    #[must_use]
    pub fn spare(&self) -> Option<String> {
        match &self.stored {
            _ if self.shape.contains(&0) => Some("it has no elements".to_owned()),
            Stored::Other { what } => Some(format!("it is {what}")),
            Stored::Dense(view) if !view.element.is_float() => {
                Some(format!("it holds {}, and what is trained are floats", view.element.name()))
            }
            Stored::Dense(view) if self.shape.is_empty() => {
                Some(format!("it is a single number, of {}", view.element.name()))
            }
            Stored::Dense(view) if view.strides.iter().zip(&view.shape).all(|(&stride, &n)| stride == 0 || n == 1) => {
                Some("it is one number, repeated".to_owned())
            }
            _ => None,
        }
    }

    /// Whether it is a single float of no axes: most often a measure, but somebody may have trained it.
    #[must_use]
    pub fn is_lone_float(&self) -> bool {
        matches!(&self.stored, Stored::Dense(view) if view.element.is_float() && self.shape.is_empty())
    }
}

impl Checkpoint {
    /// Whether two tensors hold the same values, bit for bit as f32. What cannot be read is not the same.
    #[must_use]
    pub fn same_values(&self, a: &TensorEntry, b: &TensorEntry) -> bool {
        if a.shape != b.shape {
            return false;
        }
        if a.stored == b.stored {
            return true;
        }
        if let (Stored::Dense(x), Stored::Dense(y)) = (&a.stored, &b.stored)
            && let (Some(x), Some(y)) = (self.whole(x), self.whole(y))
            && x.0 == y.0
        {
            return x.1 == y.1;
        }
        match (self.read_f32(a), self.read_f32(b)) {
            (Ok(x), Ok(y)) => x.iter().map(|v| v.to_bits()).eq(y.iter().map(|v| v.to_bits())),
            _ => false,
        }
    }

    /// Element type and bytes of a view whose elements lie in their order.
    fn whole(&self, view: &super::View) -> Option<(Element, &[u8])> {
        let mut stride = 1;
        for (&n, &found) in view.shape.iter().zip(&view.strides).rev() {
            if n != 1 && found != stride {
                return None;
            }
            stride *= n;
        }
        let (size, bytes) = (view.element.size(), self.bytes_of(view.storage));
        bytes.get(view.first * size..(view.first + stride) * size).map(|bytes| (view.element, bytes))
    }
}
