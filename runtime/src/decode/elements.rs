//! Which elements the stream of a model takes.

use super::Decoder;
use crate::error::{Error, Result};
use crate::model::Element;
use crate::sample::Sampler;

impl Decoder {
    /// The least and the largest element that can be fed.
    pub fn range(&self) -> (u32, u32) {
        let (least, most) = self.limits();
        // Beyond the ends of the type these are its ends.
        (least.ceil() as u32, most.floor() as u32)
    }

    /// Asks that whatever is chosen can be fed, before anything is.
    ///
    /// # Errors
    /// An element that the sampler may choose lies outside of what the stream takes.
    pub fn continues(&self, sampler: &Sampler) -> Result<()> {
        let (least, most) = self.limits();
        let unfit = |&element: &u32| !(least..=most).contains(&f64::from(element)) && sampler.may_choose(element);
        match (0..self.vocabulary as u32).find(unfit) {
            Some(element) => Err(Error::Unfed { vocabulary: self.vocabulary, element, least, most }),
            None => Ok(()),
        }
    }

    fn limits(&self) -> (f64, f64) {
        let port = self.tables[self.outer].stream();
        let of_type = match port.map(|port| port.element) {
            Some(Element::U8) => (0.0, 255.0),
            _ => (0.0, f64::from(u32::MAX)),
        };
        port.and_then(|port| port.range).unwrap_or(of_type)
    }

    /// Refuses elements that cannot be fed.
    pub(super) fn check(&self, elements: &[u32]) -> Result<()> {
        let Some(port) = self.tables[self.outer].stream() else {
            return Ok(());
        };
        let (least, most) = self.limits();
        match elements.iter().find(|&&e| f64::from(e) < least || f64::from(e) > most) {
            Some(&e) => Err(Error::Range { name: port.name.clone(), value: f64::from(e), least, most }),
            None => Ok(()),
        }
    }
}
